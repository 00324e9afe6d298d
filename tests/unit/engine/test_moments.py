"""Points in time as users type them."""

import pytest

from agent.engine.moments import moment, timestamp
from common import errors

NOW = 1_795_227_620_000_000_000


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1795227620", NOW),
        ("1795227620.5", NOW + 500_000_000),
        ("2026-11-21T02:20:20Z", NOW),
        ("2026-11-21T03:20:20+01:00", NOW),
        ("2026-11-21T02:20:20", NOW),
        ("2026-11-21", NOW - (2 * 3600 + 20 * 60 + 20) * 10**9),
        ("24h", NOW - 24 * 3600 * 10**9),
        ("1h30m", NOW - 90 * 60 * 10**9),
        ("1.5s", NOW - 1_500_000_000),
        ("10ms", NOW - 10_000_000),
    ],
)
def test_what_is_meant(text, found):
    assert moment(text, NOW) == found


@pytest.mark.parametrize("text", ["", "yesterday", "10 m", "-1h", "2026-13-01"])
def test_what_is_no_time(text):
    with pytest.raises(errors.InvalidArgument, match="failed to parse value as time or duration"):
        moment(text, NOW)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", 0),
        ("0", 0),
        ("0.000000000", 1),
        ("1795227620.5", NOW + 500_000_000),
        ("2026-11-21T02:20:20Z", NOW),
    ],
)
def test_timestamps(text, found):
    assert timestamp(text) == found


def test_what_is_no_timestamp():
    with pytest.raises(errors.InvalidArgument, match="invalid time: 1h"):
        timestamp("1h")
