"""Services by the unchanged docker CLI: progress, tables, scaling, errors."""

from __future__ import annotations

import json
import re

import pytest

from tests.lab.support import Lab, until

pytestmark = pytest.mark.lab


def test_create_shows_docker_progress_and_converges(swarm: Lab) -> None:
    manager = swarm.manager
    out = manager.docker(
        "service", "create", "--name", "hello", "--replicas", "2", "alpine", "sleep", "1000", timeout=60
    ).stdout  # fmt: skip
    lines = out.splitlines()
    assert re.fullmatch(r"[0-9a-z]{25}", lines[0])
    assert "overall progress: 0 out of 2 tasks" in out
    assert "overall progress: 2 out of 2 tasks" in out
    assert lines[-1].startswith("verify: Service")
    assert lines[-1].endswith("converged")
    manager.docker("service", "rm", "hello")
    swarm.wait_gone("hello")


def test_tables_and_inspect(web: Lab) -> None:
    manager = web.manager
    listed = manager.docker("service", "ls").stdout
    assert re.search(r"my-nginx\s+replicated\s+5/5\s+nginx:latest\s+\*:80->80/tcp", listed), listed
    shown = manager.docker(
        "service", "ps", "--filter", "desired-state=running", "my-nginx"
    ).stdout.splitlines()
    assert shown[0].split() == [
        "ID",
        "NAME",
        "IMAGE",
        "NODE",
        "DESIRED",
        "STATE",
        "CURRENT",
        "STATE",
        "ERROR",
        "PORTS",
    ]
    assert len(shown) == 6
    assert sorted(line.split()[1] for line in shown[1:]) == [f"my-nginx.{n}" for n in range(1, 6)]
    (service,) = json.loads(manager.docker("service", "inspect", "my-nginx").stdout)
    assert "@sha256:" in service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
    assert len(service["Endpoint"]["VirtualIPs"]) == 2
    (network,) = json.loads(manager.docker("network", "inspect", "nginx-net").stdout)
    assert (network["Scope"], network["Driver"], network["Attachable"]) == ("swarm", "overlay", False)
    names = manager.docker(
        "network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"
    ).stdout.splitlines()
    assert {"bridge bridge local", "docker_gwbridge bridge local", "host host local", "ingress overlay swarm",
            "nginx-net overlay swarm", "none null local"} <= set(names)  # fmt: skip


def test_scale_down_and_up(web: Lab) -> None:
    out = web.manager.docker("service", "scale", "my-nginx=2", timeout=90).stdout
    assert "my-nginx scaled to 2" in out
    assert "converged" in out
    web.wait_running("my-nginx", 2)
    web.manager.shoal("service", "scale", "my-nginx=5", timeout=90)
    web.wait_running("my-nginx", 5)


def test_tasks_are_spread(web: Lab) -> None:
    by_node: dict[str, int] = {}
    for task in web.wait_running("my-nginx", 5):
        by_node[task["NodeID"]] = by_node.get(task["NodeID"], 0) + 1
    assert sorted(by_node.values()) == [1, 2, 2]


def test_errors_of_creation(web: Lab) -> None:
    manager = web.manager

    def refused(*argv: str) -> str:
        done = manager.docker(*argv, check=False)
        assert done.returncode == 1, (argv, done.stdout)
        return done.stderr

    text = refused("service", "create", "-d", "--name", "other", "-p", "80:80", "nginx")
    assert re.search(
        r"rpc error: code = InvalidArgument desc = port '80' is already in use by service 'my-nginx' \([0-9a-z]{25}\) as an ingress port",
        text,
    )
    text = refused("service", "create", "-d", "--name", "my-nginx", "nginx")
    assert (
        "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service my-nginx already exists"
        in text
    )
    assert "network with name nginx-net already exists" in refused(
        "network", "create", "-d", "overlay", "nginx-net"
    )
    assert "in use by" in refused("network", "rm", "nginx-net")
    assert "no such service: nosuch" in refused("service", "inspect", "nosuch").lower()
    assert "no such service: nosuch" in refused("service", "ps", "nosuch").lower()
    assert "nosuch" in refused("service", "rm", "nosuch")
    assert "node nosuch not found" in refused("node", "inspect", "nosuch")
    assert "network nosuch not found" in refused("service", "create", "-d", "--network", "nosuch", "nginx")
    assert manager.docker("service", "ls", "-q").stdout.count("\n") == 1


def test_overlapping_subnet_is_refused_at_once(swarm: Lab) -> None:
    manager = swarm.manager
    manager.docker("network", "create", "-d", "overlay", "--subnet", "10.30.0.0/24", "first")
    try:
        for subnet in ("10.30.0.0/24", "10.30.0.128/25"):
            done = manager.docker(
                "network", "create", "-d", "overlay", "--subnet", subnet, "second", check=False
            )
            assert done.returncode == 1
            assert subnet in done.stderr
            assert "10.30.0.0/24" in done.stderr
            assert "first" in done.stderr
        done = manager.docker(
            "network", "create", "-d", "overlay", "--subnet", "10.99.0.0/24", "second", check=False
        )
        assert done.returncode == 1
        assert "10.99.0.0/24" in done.stderr
        assert "second" not in manager.docker("network", "ls").stdout
    finally:
        manager.docker("network", "rm", "first")


def test_unknown_image_warns_and_is_rejected(swarm: Lab) -> None:
    manager = swarm.manager
    done = manager.docker(
        "service", "create", "-d", "--name", "lost", "--restart-condition", "none", "nosuchimage:1"
    )
    assert "image nosuchimage:1 could not be accessed on a registry to record" in done.stderr
    try:

        def rejected() -> str:
            shown = manager.docker("service", "ps", "--no-trunc", "lost").stdout
            return shown if "Rejected" in shown else ""

        assert "No such image: nosuchimage:1" in until(rejected, 30, "the task rejected")
    finally:
        manager.docker("service", "rm", "lost")


def test_a_killed_process_is_replaced(web: Lab) -> None:
    """The dead task stays in `service ps` as history, in Docker's words."""
    victim = next(t for t in web.wait_running("my-nginx", 5) if t["Slot"] == 1)
    web.node_of(victim).run("kill", "-9", str(victim["Status"]["ContainerStatus"]["PID"]))
    until(lambda: victim["ID"] not in [t["ID"] for t in web.tasks("my-nginx")], 30, "the dead task is seen")
    web.wait_running("my-nginx", 5)
    shown = web.manager.docker("service", "ps", "--no-trunc", "my-nginx").stdout
    assert re.search(r'\\_ my-nginx\.1\s.*Shutdown\s+Failed.*"task: non-zero exit \(137\)"', shown), shown
