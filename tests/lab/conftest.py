"""One lab for the whole run: three machines booted once, one swarm; journals are printed when a test fails."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.lab.support import LAB, Lab

JOURNAL_LINES = "60"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs no machines first; the test that takes the lab down last."""

    def place(item: pytest.Item) -> int:
        if "lab" not in getattr(item, "fixturenames", ()):
            return 0
        return 2 if item.get_closest_marker("last") else 1

    items.sort(key=place)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Three machines, installed and booted; taken away at the end (LAB_KEEP=1 leaves them for a look)."""
    made = Lab()
    made.tool("down")
    subprocess.run([str(LAB), "up", "--nodes", "3"], check=True, timeout=600)
    made.read_env()
    yield made
    if not os.environ.get("LAB_KEEP"):
        made.tool("down")


@pytest.fixture(scope="session")
def swarm(lab: Lab) -> Lab:
    """A swarm of the three, joined from shells as a tutorial says, with an overlay network and a published service."""
    manager = lab.manager
    manager.shoal("swarm", "init", "--advertise-addr", manager.addr)
    token = manager.shoal("swarm", "join-token", "-q", "worker").stdout.strip()
    for name in ("worker1", "worker2"):
        joined = lab.machines[name].shoal("swarm", "join", "--token", token, f"{manager.addr}:2377")
        assert "This node joined a swarm as a worker." in joined.stdout
    manager.docker("network", "create", "-d", "overlay", "nginx-net")
    return lab


WEB = "my-nginx"


@pytest.fixture
def web(swarm: Lab) -> Lab:
    """my-nginx with five replicas on port 80, made where it is missing, scaled back where a test changed it."""
    manager = swarm.manager
    if WEB not in manager.docker("service", "ls", "--format", "{{.Name}}").stdout.split():
        manager.docker(
            "service", "create", "--detach", "--name", WEB, "--publish", "target=80,published=80", "--replicas=5",
            "--network", "nginx-net", "nginx",
        )  # fmt: skip
    manager.docker("service", "scale", "--detach", f"{WEB}=5")
    swarm.wait_running(WEB, 5)
    return swarm


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Adds the machines' journals and the swarm's tables to a failed test's report."""
    report = yield
    if report.failed and "lab" in getattr(item, "fixturenames", ()):
        for name in ("manager", "worker1", "worker2"):
            shown = subprocess.run(
                [str(LAB), "logs", name, "-u", "shoal-agent", "-u", "shoal-manager", "-u", "containerd", "-n", JOURNAL_LINES],
                capture_output=True, text=True, timeout=30, check=False,
            )  # fmt: skip
            report.sections.append((f"journal of {name}", shown.stdout + shown.stderr))
        for argv in (["node", "ls"], ["service", "ls"], ["service", "ps", "--no-trunc", WEB]):
            shown = subprocess.run(
                [str(LAB), "exec", "manager", "shoal", *argv],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            report.sections.append((" ".join(argv), shown.stdout + shown.stderr))
    return report
