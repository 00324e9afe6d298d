"""`shoal events`."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from cli import events

EVENT = {
    "Type": "container", "Action": "die", "timeNano": 1_795_227_620_000_000_789, "time": 1_795_227_620,
    "Actor": {"ID": "abc", "Attributes": {"name": "web", "exitCode": "2"}}, "scope": "local",
}  # fmt: skip


@pytest.mark.parametrize(
    ("zone", "when"),
    [
        (UTC, "2026-11-21T02:20:20.000000789Z"),
        (timezone(timedelta(hours=-3, minutes=-30)), "2026-11-20T22:50:20.000000789-03:30"),
    ],
)
def test_a_line(monkeypatch, zone, when) -> None:
    class Here(datetime):
        def astimezone(self, tz=None):
            return super().astimezone(zone)

    monkeypatch.setattr(events, "datetime", Here)
    assert events.line(EVENT) == f"{when} container die abc (exitCode=2, name=web)"


def test_without_attributes(monkeypatch) -> None:
    bare = {**EVENT, "Actor": {"ID": "", "Attributes": None}}
    assert events.line(bare).endswith(" container die ")
