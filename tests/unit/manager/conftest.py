"""For whole managers in one process: a machine that stands still for two seconds has not lost its leader."""

from __future__ import annotations

import pytest

from manager.raft import forward, group


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a read or write waits for a leader; the daemon's 1.9 s are what users wait for an error."""
    monkeypatch.setattr(group, "DEADLINE", 6.0)
    monkeypatch.setattr(forward, "PATIENCE", 6.0)
