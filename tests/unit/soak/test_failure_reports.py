"""What a failed test prints: the beginning and the end of what is long, all of what is short."""

from __future__ import annotations

from tests.reports import LONGEST, shares, shortened


def test_what_is_long_has_a_beginning_and_an_end() -> None:
    text = "\n".join(map(str, range(1_000_000)))
    lines = shortened(text, 9).splitlines()
    assert lines == ["0", "1", "2", "[999991 lines are left out]", *map(str, range(999_994, 1_000_000))]
    assert shortened("x" * 10_000_000, 9) == "x" * LONGEST + " […]"
    assert shortened("short\n  and indented", 9) == "short\n  and indented"


def test_what_is_short_is_whole_and_the_others_share_the_rest() -> None:
    assert shares([5, 2, 1], 100) == [5, 2, 1]
    assert shares([1000, 5, 1000], 105) == [50, 5, 50]
    assert shares([10] * 50, 100) == [3] * 50
    assert shares([], 100) == []
