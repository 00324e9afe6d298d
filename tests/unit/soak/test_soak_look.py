"""How the lab looks at machines: what is slow or refused must not be taken for what is wrong."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import time
from types import SimpleNamespace
from typing import Any

import pytest

from tests.lab import kernel_state, sampler, support
from tests.lab.sampler import Process, Sampler
from tests.lab.support import until

NAMES = ["one", "two", "three"]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    made.setblocking(False)
    monkeypatch.setattr(kernel_state, "RESOLVER", made.getsockname())
    return made


def test_a_resolver_that_is_gone_is_heard_of_at_once(
    resolver: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_state, "PATIENCE", 60.0)
    resolver.close()
    began = time.monotonic()
    assert kernel_state.answers(NAMES) == {name: ["ConnectionRefusedError"] for name in NAMES}
    assert time.monotonic() - began < kernel_state.PATIENCE


def test_a_resolver_that_is_silent_is_asked_once(
    resolver: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_state, "PATIENCE", 0.05)
    with resolver:
        assert kernel_state.answers(NAMES) == {name: ["TimeoutError"] for name in NAMES}
        assert resolver.recv(100)
        with pytest.raises(BlockingIOError):
            resolver.recv(100)


def test_a_look_that_began_in_time_does_not_convict(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(support, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    looks: list[float] = []

    def slow() -> bool:
        looks.append(now[0])
        now[0] += 60.0
        return len(looks) == 2

    assert until(slow, 45.0, "agreement")
    looks.clear()
    with pytest.raises(AssertionError, match="not within 45 s: agreement"):
        until(lambda: looks.append(now[0]), 45.0, "agreement")
    assert looks[-1] > looks[0] + 45.0


@pytest.mark.parametrize("pulled", [False, True])
def test_what_ends_with_its_machines_power_is_no_finding(
    pulled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = subprocess.Popen(["sleep", "600"])
    scanned: list[int] = []

    def scan(self: Any, poll: select.poll) -> None:
        if not scanned:
            scanned.append(fd := os.pidfd_open(process.pid))
            self._watched[fd] = Process("t1", "worker1", frozenset({"10.0.0.9"}))
            poll.register(fd, select.POLLIN)

    monkeypatch.setattr(sampler, "SCAN", 0.0)
    monkeypatch.setattr(Sampler, "_scan", scan)
    monkeypatch.setattr(Sampler, "_backends", lambda self, context: {"10.0.0.9"})
    looking = Sampler("none")
    looking._tables["manager", ""] = SimpleNamespace(free=lambda: None)  # type: ignore[assignment]
    looking.start()
    try:
        until(lambda: looking._watched, 30, "the process is watched")
        with looking.without_power("worker1" if pulled else "worker2"):
            process.kill()
            process.wait()
        assert [held.task for held in looking.found] == ([] if pulled else ["t1"])
    finally:
        process.kill()
        process.wait()
        looking.stop()
