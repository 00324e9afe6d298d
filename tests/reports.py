"""A failed test tells what is wrong in some four hundred lines, whatever it compared. For tests/conftest.py.

Where runs are kept only their last lines may be read: a failure that shows two lists of a million lines hides itself and all others.
"""

from __future__ import annotations

import pytest
from _pytest._code.code import ExceptionChainRepr

STORY = 80  # lines of what went wrong
MEANWHILE = 300  # of all that was captured and asked besides
SUMMARY = 3  # of what is said once more at the end
LONGEST = 600  # characters of a line


def shortened(text: str, most: int) -> str:
    """Its beginning and its end, which say most; lines cut."""
    lines = text.splitlines()
    if len(lines) > most:
        first = most // 3
        lines = [*lines[:first], f"[{len(lines) - most} lines are left out]", *lines[first - most :]]
    return "\n".join(line if len(line) <= LONGEST else f"{line[:LONGEST]} […]" for line in lines)


def shares(lengths: list[int], most: int) -> list[int]:
    """How many lines each may have: what is short is whole, the others share what that leaves."""
    given = [0] * len(lengths)
    for done, number in enumerate(sorted(range(len(lengths)), key=lengths.__getitem__)):
        given[number] = min(lengths[number], max(most // (len(lengths) - done), 3))
        most -= given[number]
    return given


def shorten_story(story: ExceptionChainRepr) -> None:
    """What is shown of an exception, and of those that it came from."""
    entries = [entry for traceback, _, _ in story.chain for entry in traceback.reprentries]
    for entry, most in zip(entries, shares([len(entry.lines) for entry in entries], STORY), strict=True):
        entry.lines[:] = shortened("\n".join(entry.lines), most).splitlines()
    for _, crash, _ in story.chain:
        if crash is not None:  # the line of the summary
            crash.message = shortened(crash.message, SUMMARY)


def shorten(report: pytest.TestReport) -> None:
    """Of a failure, when all others have said what they have to say."""
    if isinstance(report.longrepr, ExceptionChainRepr):
        shorten_story(report.longrepr)
    given = shares([len(text.splitlines()) for _, text in report.sections], MEANWHILE)
    report.sections = [
        (name, shortened(text, most)) for (name, text), most in zip(report.sections, given, strict=True)
    ]
