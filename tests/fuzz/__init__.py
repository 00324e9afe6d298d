"""Bad bytes at what listens, from seeds: tests/unit/fuzz throws some thousands in every run, `make soak-fuzz` a million each."""
