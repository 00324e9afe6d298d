"""Single containers by the unchanged docker CLI: on a machine's own, in attachable overlays, over the agent's death."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.lab.support import Lab, Machine, until

pytestmark = pytest.mark.lab

NET = "attachable"


@pytest.fixture
def clean(swarm: Lab) -> Iterator[Lab]:
    """Single containers go first, then what else a test here has made."""
    yield swarm
    for machine in swarm.machines.values():
        if mine := machine.docker("ps", "-aq", "--filter", "is-task=false").stdout.split():
            machine.docker("rm", "-f", *mine)
    manager = swarm.manager
    known = set(manager.docker("service", "ls", "--format", "{{.Name}}").stdout.split())
    if "vip" in known:
        manager.docker("service", "rm", "vip")
    for name in ("plain", NET):
        manager.docker("network", "rm", name, check=False)


def shell(machine: Machine, script: str) -> str:
    """A script on this host whose `docker` speaks to the machine."""
    environment = {**os.environ, "DOCKER_HOST": f"unix://{machine.socket}"}
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert done.returncode == 0, (script, done.stdout, done.stderr)
    return done.stdout


def refused(machine: Machine, *words: str) -> str:
    done = machine.docker(*words, check=False)
    assert done.returncode == 125, (words, done.stdout, done.stderr)
    return done.stderr


def address(machine: Machine, name: str, network: str) -> str:
    (shown,) = json.loads(machine.docker("inspect", name).stdout)
    return str(shown["NetworkSettings"]["Networks"][network]["IPAddress"])


def reaches(machine: Machine, name: str, target: str) -> bool:
    return not machine.docker("exec", name, "ping", "-c1", "-W3", target, check=False).returncode


def fails_to_start(machine: Machine) -> None:
    """Its reason stays, and Docker's exit code."""
    done = machine.docker("run", "--name", "broken", "alpine", "nosuchprogram", check=False)
    assert (done.returncode, "executable file not found" in done.stderr) == (127, True), done.stderr
    shown = machine.docker(
        "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}", "broken"
    ).stdout
    assert shown.startswith("created 127 ") and "executable file not found" in shown
    assert machine.docker("wait", "broken").stdout == "127\n"


def test_on_a_machines_own(clean: Lab) -> None:
    """No network, the machine's, the default one; streams, terminals, exit codes, and the texts of refusals."""
    machine = clean.machines["worker2"]
    done = machine.docker("run", "--rm", "--network", "none", "alpine", "sh", "-c", "echo out; echo err >&2; exit 3",
                          check=False)  # fmt: skip
    assert (done.stdout, done.returncode) == ("out\n", 3) and "err" in done.stderr
    assert (
        machine.docker("run", "--rm", "--network", "host", "alpine", "hostname").stdout.strip()
        == machine.name
    )
    # By the default network to the outside, with the machine's address.
    assert "1 packets received" in machine.docker(
        "run", "--rm", "alpine", "ping", "-c1", "-W3", clean.manager.addr
    ).stdout  # fmt: skip
    piped = shell(machine, "seq 1 100000 | docker run -i --rm alpine sh -c 'cat; echo end' | md5sum")
    assert piped.split()[0] == shell(machine, "(seq 1 100000; echo end) | md5sum").split()[0]
    # More than the log keeps, by one who begins to read when the container has long been removed.
    slow = shell(machine, "docker run --rm alpine sh -c 'seq 1 6000000' | (sleep 3; md5sum)")
    assert slow.split()[0] == shell(machine, "seq 1 6000000 | md5sum").split()[0]
    script = "docker run -it --rm alpine sh -c 'tty; read x; echo got $x'"
    typed = shell(
        machine, f'(sleep 1; echo hello) | script -qec "{script.replace("$", chr(92) + "$")}" /dev/null'
    )
    assert "/dev/pts/0" in typed and "got hello" in typed
    machine.docker("run", "-d", "--name", "talker", "-e", "WORD=tick", "-w", "/tmp", "--hostname", "said", "alpine",
                   "sh", "-c", "hostname; while :; do echo $WORD; sleep 0.2; done")  # fmt: skip
    until(lambda: "tick" in machine.docker("logs", "talker").stdout, 30, "output")
    assert machine.docker("logs", "talker").stdout.startswith("said\n")
    assert machine.docker("exec", "talker", "pwd").stdout == "/tmp\n"
    assert shell(machine, "echo some | docker exec -i talker cat") == "some\n"
    assert "already in use by container" in refused(
        machine, "run", "-d", "--name", "talker", "alpine", "true"
    )
    assert "is not supported yet" in refused(machine, "run", "--pid", "container:talker", "alpine", "true")
    seen = machine.docker(
        "run", "--rm", "--pid", "host", "--uts", "host", "alpine", "cat", "/proc/1/comm", "/etc/hostname"
    )
    assert seen.stdout.split() == ["systemd", machine.name]
    told = machine.docker("events", "--since", "5m", "--until", str(int(time.time()) + 1), "--filter", "container=talker",
                          "--format", "{{.Action}}").stdout.split("\n")  # fmt: skip
    assert told[:2] == ["create", "start"] and "exec_create: pwd" in told and "exec_die" in told
    assert machine.docker("run", "--rm", "alpine", "nosuch", check=False).returncode == 127
    (shown,) = json.loads(machine.docker("inspect", "talker").stdout)
    pid = shown["State"]["Pid"]
    machine.kill9("shoal-agent")
    machine.docker("exec", "talker", "true")  # waits for the agent
    assert json.loads(machine.docker("inspect", "talker").stdout)[0]["State"]["Pid"] == pid
    assert address(machine, "talker", "bridge")
    assert "1 packets received" in machine.docker(
        "exec", "talker", "ping", "-c1", "-W3", clean.manager.addr
    ).stdout  # fmt: skip
    machine.docker("stop", "-t", "0", "talker")
    listed = machine.docker("ps", "-a", "--format", "{{.Names}} {{.Status}} {{.Networks}}").stdout
    assert re.search(r"^talker Exited \(137\) .* bridge$", listed, re.M), listed
    machine.docker("start", "talker")
    assert "You cannot remove a running container" in machine.docker("rm", "talker", check=False).stderr
    machine.docker("kill", "talker")
    assert machine.docker("wait", "talker").stdout == "137\n"
    machine.docker("rm", "talker")
    assert "No such container: talker" in machine.docker("start", "talker", check=False).stderr
    fails_to_start(machine)
    # A stop meets the start that is under way, and one by a policy.
    machine.docker("run", "-d", "--name", "again", "--restart", "always", "alpine", "true")
    machine.docker("stop", "again")
    assert machine.docker("inspect", "-f", "{{.State.Status}}", "again").stdout == "exited\n"


def is_shown_in_an_overlay(worker: Machine) -> None:
    """c2, by what inspection says of the network."""
    (shown,) = json.loads(worker.docker("network", "inspect", NET).stdout)
    inside = {member["Name"]: member["IPv4Address"] for member in shown["Containers"].values()}
    assert inside["c2"].partition("/")[0] == address(worker, "c2", NET)
    assert f"{NET}-endpoint" in inside


def is_refused_elsewhere(worker: Machine) -> None:
    """In networks that take no containers."""
    for network, said in (
        ("plain", "code = PermissionDenied desc = network plain not manually attachable"),
        ("ingress", "code = PermissionDenied desc = network ingress not manually attachable"),
        ("nosuch", "code = NotFound desc = network nosuch not found"),
    ):
        text = refused(worker, "run", "-d", "--network", network, "alpine", "true")
        assert (
            f"docker: Error response from daemon: Could not attach to network {network}: rpc error: {said}"
            in text
        )


def keeps_its_place(manager: Machine, worker: Machine) -> None:
    """The agent's death is nothing to a container: address, name and way stay."""
    before = address(worker, "c2", NET)
    worker.kill9("shoal-agent")
    manager.docker("exec", "c1", "ping", "-c1", "-W3", "c2")
    until(lambda: reaches(worker, "c2", "c1"), 30, "agent")
    assert address(worker, "c2", NET) == before


def leaves_and_comes_back(manager: Machine, worker: Machine) -> None:
    """Its end takes it out of everybody's names; another start brings it back."""
    before = address(worker, "c2", NET)
    worker.docker("stop", "-t", "0", "c2")
    until(lambda: not reaches(manager, "c1", "two"), 30, "the end")
    worker.docker("start", "c2")
    until(lambda: reaches(manager, "c1", "two"), 30, "two")
    assert address(worker, "c2", NET) != before


def has_the_address_that_it_asks_for(manager: Machine, worker: Machine) -> None:
    """An address and a MAC, over a restart; then somebody else's, on another node."""
    subnet = manager.docker(
        "network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", NET
    ).stdout.strip()
    chosen, mac = subnet.replace(".0/24", ".77"), "92:d0:c6:0a:29:33"
    run = ("run", "-d", "--name", "c4", "--network", NET, "--ip")
    worker.docker(*run, chosen, "--mac-address", mac, "alpine", "sleep", "1000")
    for _ in ("run", "restart"):
        assert address(worker, "c4", NET) == chosen
        assert worker.docker("exec", "c4", "cat", "/sys/class/net/eth0/address").stdout.strip() == mac
        manager.docker("exec", "c1", "ping", "-c1", "-W3", chosen)
        worker.docker("restart", "-t0", "c4")
    worker.docker("rm", "-f", "c4")
    manager.docker(*run, chosen, "alpine", "sleep", "1000")
    assert address(manager, "c4", NET) == chosen
    manager.docker("rm", "-f", "c4")
    done = manager.docker(*run, "192.0.2.1", "alpine", "true", check=False)
    assert done.returncode == 125
    assert "Invalid address 192.0.2.1: It does not belong to any of this network's subnets" in done.stderr
    manager.docker("rm", "c4")


def test_in_an_attachable_overlay(clean: Lab) -> None:
    """On two machines: names, aliases, a VIP, what inspection shows, an end, a restart of the agent, and refusals."""
    manager, worker = clean.manager, clean.machines["worker1"]
    manager.docker("network", "create", "-d", "overlay", "--attachable", NET)
    manager.docker("network", "create", "-d", "overlay", "plain")
    manager.docker("service", "create", "-d", "--name", "vip", "--replicas", "2", "--network", NET, "nginx")
    manager.docker("run", "-d", "--name", "c1", "--network", NET, "alpine", "sleep", "1000")
    worker.docker(
        "run", "-d", "--name", "c2", "--network", NET, "--network-alias", "two", "alpine", "sleep", "1000"
    )
    for machine, name, other in ((manager, "c1", "two"), (worker, "c2", "c1"), (manager, "c1", "c2")):
        until(lambda m=machine, n=name, o=other: reaches(m, n, o), 30, f"{name} reaches {other}")
    pinged = manager.docker("run", "--rm", "--network", NET, "alpine", "ping", "-c", "1", "c2").stdout
    assert f"PING c2 ({address(worker, 'c2', NET)})" in pinged
    clean.wait_running("vip", 2)
    until(
        lambda: worker.docker("exec", "c2", "wget", "-q", "-O-", "http://vip", check=False).stdout,
        30,
        "the VIP",
    )
    is_shown_in_an_overlay(worker)
    is_refused_elsewhere(worker)
    assert "is in use" in manager.docker("network", "rm", NET, check=False).stderr
    keeps_its_place(manager, worker)
    leaves_and_comes_back(manager, worker)
    # Another name is known everywhere at once, and the old one nowhere.
    worker.docker("rename", "c2", "c3")
    until(lambda: reaches(manager, "c1", "c3"), 30, "c3")
    assert "bad address 'c2'" in manager.docker("exec", "c1", "ping", "-c1", "c2", check=False).stderr
    worker.docker("rm", "-f", "c3")
    has_the_address_that_it_asks_for(manager, worker)
    manager.docker("rm", "-f", "c1")
    manager.docker("service", "rm", "vip")
    until(
        lambda: manager.docker("network", "rm", NET, check=False).returncode == 0, 30, "the network's removal"
    )
