"""The kinds of values that flags take: text to data, without any I/O. Used by the modules of the nouns."""
