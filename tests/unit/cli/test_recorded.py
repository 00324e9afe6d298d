"""Commands against recorded conversations: what is asked of the daemon, what is sent, what is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_daemon import Daemon, Exchange, Shoal

from cli import clock

DATA = Path(__file__).parent / "data"
CASES = [(path.stem, case) for path in sorted(DATA.glob("*.json")) for case in json.loads(path.read_text())]


@pytest.mark.parametrize(
    "case", [case for _, case in CASES], ids=[f"{noun}:{case['name']}" for noun, case in CASES]
)
def test_conversation(
    case: dict[str, Any], daemon: Daemon, shoal: Shoal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(clock, "now", lambda: case["now"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vars.env").write_text("# comment\nA=1\nB=two\n")
    for exchange in case["exchanges"]:
        daemon.script.append(
            Exchange(
                exchange["method"],
                exchange["path"],
                exchange.get("answer"),
                exchange.get("status", 200),
                exchange.get("query", {}),
            )
        )

    result = shoal(*case["words"], stdin=case.get("stdin", ""))

    assert result.out == "\n".join(case["out"])
    assert result.err == "\n".join(case["err"])
    assert result.code == case["code"]
    assert daemon.sent() == [
        exchange.get("sent") for exchange in case["exchanges"] if exchange["method"] == "POST"
    ]
    never_asked = [f"{exchange.method} {exchange.path}" for exchange in daemon.script if not exchange.used]
    assert not never_asked
