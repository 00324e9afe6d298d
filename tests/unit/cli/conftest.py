"""A daemon that answers from a script, and a `shoal` to call against it."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
from fake_daemon import Daemon, Handler, HeldClock, Result, ScriptedServer, Shoal, Terminal

from cli import clock
from cli.main import main


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    socket_path = tmp_path / "d.sock"
    server = ScriptedServer(str(socket_path), Handler)
    server.daemon = Daemon(f"unix://{socket_path}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.daemon
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def shoal(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Shoal:
    """Calls the command in this process; `terminal`: its output is one."""

    def call(*words: str, stdin: str | TextIO = "", terminal: bool = False) -> Result:
        out: io.StringIO = Terminal() if terminal else io.StringIO()
        err = io.StringIO()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            patch.setattr(sys, "stdin", io.StringIO(stdin) if isinstance(stdin, str) else stdin)
            patch.setenv("SHOAL_HOST", daemon.host)
            code = main(list(words))
        return Result(code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture
def held_clock(monkeypatch: pytest.MonkeyPatch) -> HeldClock:
    held = HeldClock()
    monkeypatch.setattr(clock, "steady", lambda: held.seconds)
    monkeypatch.setattr(clock, "pause", held.pause)
    return held
