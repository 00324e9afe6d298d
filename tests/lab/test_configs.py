"""Configs by the unchanged docker CLI: from a file to what a container serves, and nothing left afterwards."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.lab.support import Lab, until

pytestmark = pytest.mark.lab

FILES = "/run/shoal/tasks"
PAGE = "<h1>seven</h1>\n"
LARGEST = bytes(range(256)) * 3999 + bytes(255)  # one byte less than 1000 KiB


def files(lab: Lab) -> dict[str, str]:
    """What lies on each machine for its tasks."""
    return {
        name: machine.sh(f"find {FILES} -type f 2>/dev/null || true").strip()
        for name, machine in lab.machines.items()
    }


def serve(lab: Lab) -> dict[str, Any]:
    """A web server on worker1 whose page is a config; its task, once it runs."""
    lab.manager.docker(
        "service", "create", "--detach", "--name", "page", "--publish", "8088:80",
        "--constraint", "node.hostname==worker1", "--env", "TIER=front", "--stop-grace-period", "0s",
        "--config", "source=page,target=/www/index.html,uid=33,gid=44,mode=0440",
        "--config", "plain", "--config", "source=filled-in,target=/etc/filled-in", "--config", "largest",
        "alpine", "httpd", "-f", "-p", "80", "-h", "/www",
    )  # fmt: skip
    return lab.wait_running("page", 1)[0]


def test_a_config_becomes_a_page(swarm: Lab, tmp_path: Path) -> None:
    manager = swarm.manager
    for name, text in (("page", PAGE), ("template", '{{.Service.Name}} {{env "TIER"}} {{.Node.Hostname}}\n')):
        (tmp_path / name).write_text(text)
    made = manager.docker("config", "create", "--label", "tier=web", "page", str(tmp_path / "page")).stdout
    assert re.fullmatch(r"[0-9a-z]{25}\n", made)
    template = ("config", "create", "--template-driver", "golang", "filled-in", str(tmp_path / "template"))
    manager.docker(*template)
    manager.run("shoal", "config", "create", "plain", "-", input="key=value\n")
    (tmp_path / "largest").write_bytes(LARGEST)
    manager.docker("config", "create", "largest", str(tmp_path / "largest"))
    try:
        again = manager.docker(*template, check=False)
        assert (again.returncode, again.stderr) == (
            1,
            "Error response from daemon: rpc error: code = AlreadyExists desc = config filled-in already exists\n",
        )
        for listed in (manager.docker("config", "ls").stdout, manager.shoal("config", "ls").stdout):
            lines = listed.splitlines()
            assert re.split(r"\s{3,}", lines[0]) == ["ID", "NAME", "CREATED", "UPDATED"]
            assert [line.split()[1] for line in lines[1:]] == ["filled-in", "largest", "page", "plain"]
        (shown,) = json.loads(manager.docker("config", "inspect", "page").stdout)
        assert shown["Spec"] == {"Name": "page", "Labels": {"tier": "web"}, "Data": "PGgxPnNldmVuPC9oMT4K"}

        task = serve(swarm)
        page = ("wget", "-qO-", f"http://{manager.addr}:8088/index.html")
        assert until(lambda: swarm.outside(*page, check=False), 30, "the page") == PAGE
        of_the_service(swarm, task)
        refused = manager.docker("config", "rm", "page", check=False)
        assert (refused.returncode, refused.stderr) == (
            1,
            "Error response from daemon: rpc error: code = InvalidArgument desc = "
            "config 'page' is in use by the following service: page\n",
        )
    finally:
        manager.docker("service", "rm", "page", check=False)
        swarm.wait_gone("page")
        until(lambda: not any(files(swarm).values()), 30, "nothing left of the task's files")
        removed = manager.docker("config", "rm", "page", "plain", "filled-in", "largest", check=False)
    assert removed.stdout.split() == ["page", "plain", "filled-in", "largest"]
    assert manager.docker("config", "ls", "-q").stdout == ""


def of_the_service(swarm: Lab, task: dict[str, Any]) -> None:
    """What the container sees, what its node holds, and what the other nodes do not."""
    assert swarm.task_exec(task, "cat", "/plain") == "key=value\n"
    assert swarm.task_exec(task, "cat", "/etc/filled-in") == "page front worker1\n"
    digest = swarm.task_exec(task, "sha256sum", "/largest").split()[0]
    assert digest == hashlib.sha256(LARGEST).hexdigest()
    owners = swarm.task_exec(task, "stat", "-c", "%n %u %g %a", "/www/index.html", "/plain")
    assert owners == "/www/index.html 33 44 440\n/plain 0 0 444\n"
    swarm.task_exec(task, "sh", "-c", "! echo x > /plain")
    assert swarm.task_exec(task, "cat", "/plain") == "key=value\n"
    assert [name for name, found in files(swarm).items() if found] == ["worker1"]
    (service,) = json.loads(swarm.manager.docker("service", "inspect", "page").stdout)
    configs = service["Spec"]["TaskTemplate"]["ContainerSpec"]["Configs"]
    assert {c["ConfigName"]: c["File"] for c in configs} == {
        "page": {"Name": "/www/index.html", "UID": "33", "GID": "44", "Mode": 0o440},
        "plain": {"Name": "plain", "UID": "0", "GID": "0", "Mode": 0o444},
        "filled-in": {"Name": "/etc/filled-in", "UID": "0", "GID": "0", "Mode": 0o444},
        "largest": {"Name": "largest", "UID": "0", "GID": "0", "Mode": 0o444},
    }
    container = task["Status"]["ContainerStatus"]["ContainerID"]
    (shown,) = json.loads(swarm.machines["worker1"].docker("inspect", container).stdout)
    assert shown["Mounts"] == []


def test_a_daemon_that_is_killed_leaves_the_files(swarm: Lab, tmp_path: Path) -> None:
    manager, worker = swarm.manager, swarm.machines["worker1"]
    (tmp_path / "page").write_text(PAGE)
    manager.docker("config", "create", "page", str(tmp_path / "page"))
    manager.docker(
        "service", "create", "--detach", "--name", "page", "--constraint", "node.hostname==worker1",
        "--config", "page", "--stop-grace-period", "0s", "alpine", "sleep", "1000",
    )  # fmt: skip
    try:
        (task,) = swarm.wait_running("page", 1)
        worker.wait_unit("shoal-agent", worker.kill9("shoal-agent"))
        swarm.wait_node("worker1", "ready")
        (same,) = swarm.wait_running("page", 1)
        assert same["ID"] == task["ID"]
        assert swarm.task_exec(same, "cat", "/page") == PAGE
        assert files(swarm)["worker1"] == f"{FILES}/{task['ID']}/0"
    finally:
        manager.docker("service", "rm", "page")
        swarm.wait_gone("page")
        until(lambda: not any(files(swarm).values()), 30, "nothing left of the task's files")
        manager.docker("config", "rm", "page")


def test_an_update_takes_another_config(swarm: Lab, tmp_path: Path) -> None:
    manager = swarm.manager
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
        manager.docker("config", "create", name, str(tmp_path / name))
    manager.docker(
        "service", "create", "--detach", "--name", "page", "--stop-grace-period", "0s", "--config", "source=one,target=/page",
        "alpine", "sleep", "1000",
    )  # fmt: skip
    try:
        (before,) = swarm.wait_running("page", 1)
        assert swarm.task_exec(before, "cat", "/page") == "one"
        replaced = ("--config-rm", "one", "--config-add", "source=two,target=/page")
        manager.docker("service", "update", "--detach", *replaced, "page")

        def another() -> list[dict[str, Any]]:
            return [task for task in swarm.tasks("page") if task["ID"] != before["ID"]]

        (after,) = until(another, 60, "a task with the other config")
        assert swarm.task_exec(after, "cat", "/page") == "two"
        manager.docker("config", "rm", "one")
        left = f"{FILES}/{after['ID']}/0"
        until(lambda: "".join(files(swarm).values()) == left, 30, "only the new task's file is left")
        refused = manager.docker("service", "rollback", "--detach", "page", check=False)
        assert (refused.returncode, refused.stderr.strip()) == (
            1,
            "Error response from daemon: rpc error: code = InvalidArgument desc = config not found: one",
        )
    finally:
        manager.docker("service", "rm", "page")
        swarm.wait_gone("page")
        manager.docker("config", "rm", "one", "two", check=False)
