"""A rolling restart that nobody notices: a task leaves the balancers, then ends what it has begun, then ends itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.support import LOAD, Lab, Running

pytestmark = pytest.mark.lab

NAME, PORT, TASKS = "rolled", 8085, 10
RATE, SLOW_RATE = "200", "10"
SLOW_SECONDS = 2
# What takes a while: so many bytes a second, with headers of some 170.
SITE = f"""
server {{
    listen 80;
    default_type text/plain;
    location = /whoami {{ return 200 "$hostname\\n"; }}
    location = /slow {{ limit_rate 150; return 200 "{"x" * 150 * SLOW_SECONDS}\\n"; }}
}}
"""


@pytest.fixture
def rolled(web: Lab, tmp_path: Path) -> Iterator[Lab]:
    """Ten tasks of a web server that answers at once and slowly, and a task to call them from."""
    manager = web.manager
    (tmp_path / "site").write_text(SITE)
    manager.docker("config", "create", "slow-site", str(tmp_path / "site"))
    manager.docker(
        "service", "create", "-d", "--name", NAME, "--publish", f"{PORT}:80", "--replicas", str(TASKS), "--network", "nginx-net",
        "--config", "source=slow-site,target=/etc/nginx/conf.d/default.conf", "--update-parallelism", "3", "nginx",
    )  # fmt: skip
    manager.docker(
        "service", "create", "-d", "--name", "caller", "--network", "nginx-net", "--constraint", "node.hostname==worker1",
        "--stop-signal", "SIGKILL", "alpine", "sleep", "100000",
    )  # fmt: skip
    web.wait_running(NAME, TASKS)
    web.wait_running("caller", 1)
    web.wait_served(PORT, TASKS)
    web.machines["worker1"].run("sh", "-c", "cat > /root/load.py", input=LOAD.read_text())
    yield web
    manager.docker("service", "rm", NAME, "caller")
    web.wait_gone(NAME)
    manager.docker("config", "rm", "slow-site")


def whole(running: Running, least: int) -> None:
    account = running.account
    assert not account["failed"], (account["failed"], account["first"])
    assert account["ok"] >= least, account


def test_a_rolling_restart_loses_no_connection(rolled: Lab) -> None:
    """New ones through the mesh and through the VIP; and some that are under way when their task is told to stop."""
    before = {task["ID"] for task in rolled.wait_running(NAME, TASKS)}
    mesh = [f"{machine.addr}:{PORT}" for machine in rolled.machines.values()]
    vip = f"{rolled.vip(NAME, 'nginx-net')}:80"
    (caller,) = rolled.wait_running("caller", 1)
    pid = caller["Status"]["ContainerStatus"]["PID"]
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "python3", "/root/load.py", "http"]
    outside = ["python3", str(LOAD), "http"]
    with (
        rolled.load([*outside, RATE, *mesh]) as by_mesh,
        rolled.load([*outside, SLOW_RATE, *(f"{target}/slow" for target in mesh)]) as slow_by_mesh,
        rolled.load([*inside, RATE, vip], machine="worker1") as by_vip,
        rolled.load([*inside, SLOW_RATE, f"{vip}/slow"], machine="worker1") as slow_by_vip,
    ):
        out = rolled.manager.docker("service", "update", "--force", NAME, timeout=120).stdout
    assert f"overall progress: {TASKS} out of {TASKS} tasks" in out and out.rstrip().endswith("converged")
    assert not before & {task["ID"] for task in rolled.wait_running(NAME, TASKS)}
    for running, least in ((by_mesh, 500), (by_vip, 500), (slow_by_mesh, 30), (slow_by_vip, 30)):
        whole(running, least)
