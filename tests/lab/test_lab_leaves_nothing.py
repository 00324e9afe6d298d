"""``lab down`` leaves nothing on the host: after a good ``up``, after one that was broken off, after a crash."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.lab.support import until

pytestmark = pytest.mark.lab

LAB_CODE = Path(__file__).resolve().parents[2] / "deploy" / "lab"
LAB = str(LAB_CODE / "lab")
NAME = f"test{os.getpid()}"  # two test runs on one host don't meet
ENVIRONMENT = {**os.environ, "SHOAL_LAB": NAME}
RUN = Path(f"/run/shoal-lab-{NAME}")
STATE = Path(f"/var/lib/shoal-lab-{NAME}")


@pytest.fixture
def snapshot(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(LAB_CODE))
    monkeypatch.setenv("SHOAL_LAB", NAME)
    for name in ("snapshot", "kernel", "plan"):
        sys.modules.pop(name, None)
    import snapshot as module

    yield module
    for name in ("snapshot", "kernel", "plan"):
        sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def _no_lab_before_or_after() -> Iterator[None]:
    lab("down")
    yield
    lab("down")


def lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LAB, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False
    )


def supervisor() -> int:
    return int((RUN / "supervisor.pid").read_text().split()[0])


def check_nothing_left(snapshot: ModuleType, before: object, during: object) -> None:
    done = lab("down")
    assert done.returncode == 0, done.stderr
    left: list[str] = []

    def clean() -> bool:
        left[:] = snapshot.leftovers(before, during, snapshot.take())
        return not left

    with contextlib.suppress(AssertionError):  # the list says more
        until(clean, 30, "nothing is left behind")
    assert not left, "left behind:\n" + "\n".join(left)
    assert not STATE.exists()


def test_after_a_whole_lab(snapshot: ModuleType) -> None:
    before = snapshot.take()
    lab("up", "--nodes", "2")
    assert lab("exec", "worker1", "hostname").stdout == "worker1\n"
    during = snapshot.take()
    assert during["processes"] - before["processes"]
    check_nothing_left(snapshot, before, during)


def test_after_an_up_that_was_broken_off(snapshot: ModuleType) -> None:
    before = snapshot.take()
    with subprocess.Popen([LAB, "up"], env=ENVIRONMENT, stderr=subprocess.DEVNULL) as up:
        until(lambda: any(RUN.glob("*.console")), 120, "a machine boots")
        up.send_signal(signal.SIGKILL)
    check_nothing_left(snapshot, before, snapshot.take())


def test_after_the_supervisor_was_killed(snapshot: ModuleType) -> None:
    before = snapshot.take()
    lab("up", "--nodes", "1")
    during = snapshot.take()
    os.kill(supervisor(), signal.SIGKILL)
    until(lambda: lab("status").returncode == 1, 60, "status says that the lab is down")
    check_nothing_left(snapshot, before, during)


def test_down_without_a_lab_is_fine() -> None:
    done = lab("down")
    assert done.returncode == 0, done.stderr
