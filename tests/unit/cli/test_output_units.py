"""Times and sizes in words."""

from __future__ import annotations

import pytest

from cli.output.tables import table
from cli.output.units import SECOND, ago, binary_size, decimal_size, duration, go_time, parse_time, since

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (SECOND // 2, "Less than a second"),
        (SECOND, "1 second"),
        (59 * SECOND, "59 seconds"),
        (MINUTE, "About a minute"),
        (59 * MINUTE, "59 minutes"),
        (HOUR, "About an hour"),
        (47 * HOUR, "47 hours"),
        (3 * DAY, "3 days"),
        (21 * DAY, "3 weeks"),
        (90 * DAY, "3 months"),
        (800 * DAY, "2 years"),
    ],
)
def test_ago(nanoseconds: int, text: str) -> None:
    assert ago(nanoseconds) == text


def test_times() -> None:
    stamp = "2026-11-21T02:18:16.946903846Z"
    assert go_time(stamp) == "2026-11-21 02:18:16.946903846 +0000 UTC"
    assert since(stamp, parse_time(stamp) + 5 * SECOND) == "5 seconds ago"
    assert parse_time("2026-11-21T04:18:16+02:00") == parse_time("2026-11-21T02:18:16Z")
    assert parse_time("0001-01-01T00:00:00Z") == 0


def test_sizes() -> None:
    assert binary_size(25276510208) == "23.54GiB"
    assert binary_size(16 << 20) == "16MiB"
    assert decimal_size(1_984_000) == "1.98MB"
    assert decimal_size(0) == "0B"


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (7776000 * SECOND, "2160h0m0s"),
        (1500 * 10**6, "1.5s"),
        (300 * 10**6, "300ms"),
        (90 * SECOND, "1m30s"),
    ],
)
def test_duration(nanoseconds: int, text: str) -> None:
    assert duration(nanoseconds) == text


def test_columns() -> None:
    assert table([["ID", "NAME", "PORTS"], ["a" * 12, "web", ""]]) == (
        "ID             NAME      PORTS\naaaaaaaaaaaa   web       \n"
    )
