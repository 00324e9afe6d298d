"""What the watchers of `reach` have seen, as seconds."""

from __future__ import annotations

import pytest

from benchmarks.engine import BenchError
from benchmarks.reach import Changes, first, last, since

CHANGES: Changes = [(0, []), (100.5, ["10.0.0.2"]), (101.0, ["10.0.0.2", "10.0.0.3"]), (103.25, ["10.0.0.3"])]


def test_seconds_until_the_answers_changed() -> None:
    assert first(CHANGES, "10.0.0.3", 100.0) == 1.0
    assert last(CHANGES, "10.0.0.2", 103.0) == 0.25
    with pytest.raises(BenchError, match="never"):
        first(CHANGES, "10.0.0.4", 100.0)
    with pytest.raises(BenchError, match="still"):
        last(CHANGES, "10.0.0.3", 101.0)


def test_nanoseconds_of_the_api() -> None:
    task = {"Status": {"Timestamp": "2026-11-21T10:00:00.123456789Z"}}
    assert since(task) % 60 == pytest.approx(0.123456789, abs=1e-6)
