"""Joining from a shell, and what is refused: Docker's texts, exit code 1, nothing half-done."""

from __future__ import annotations

import re
import time

import pytest

from tests.lab.support import Lab, Machine, until

pytestmark = pytest.mark.lab

ANSWERED = 30.0  # seconds for a refusal, on a machine that is busy with something else


def refused(machine: Machine, *argv: str) -> str:
    """Runs a shoal command that must fail with exit code 1; its standard error."""
    done = machine.shoal(*argv, check=False)
    assert done.returncode == 1, (argv, done.stdout, done.stderr)
    return done.stderr


def test_node_ls_shows_three_ready_nodes(swarm: Lab) -> None:
    for name in swarm.machines:
        swarm.wait_node(name, "ready")
    lines = swarm.manager.docker("node", "ls").stdout.splitlines()
    assert lines[0].split() == [
        "ID",
        "HOSTNAME",
        "STATUS",
        "AVAILABILITY",
        "MANAGER",
        "STATUS",
        "ENGINE",
        "VERSION",
    ]
    assert len(lines) == 4
    (leader,) = [line for line in lines if "Leader" in line]
    assert re.match(r"[0-9a-z]{25} \*\s+manager\s+Ready\s+Active\s+Leader", leader)
    assert sum("Ready" in line and "Active" in line for line in lines) == 3


def test_the_two_clients_show_the_same(swarm: Lab) -> None:
    manager = swarm.manager
    for argv in (["node", "ls"], ["service", "ls"], ["network", "ls"]):
        # What happened between the one and the other doesn't tell them apart.
        until(
            lambda a=argv: manager.shoal(*a).stdout == manager.docker(*a).stdout,
            30,
            f"the same {' '.join(argv)}",
        )


def test_joining_twice_is_refused(swarm: Lab) -> None:
    token = swarm.manager.shoal("swarm", "join-token", "-q", "worker").stdout.strip()
    text = refused(swarm.machines["worker1"], "swarm", "join", "--token", token, f"{swarm.manager.addr}:2377")
    assert (
        'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.'
        in text
    )


def test_init_on_a_member_is_refused(swarm: Lab) -> None:
    assert "This node is already part of a swarm" in refused(swarm.machines["worker1"], "swarm", "init")


def test_a_worker_is_no_manager(swarm: Lab) -> None:
    worker = swarm.machines["worker1"]
    for argv in (
        ["node", "ls"],
        ["service", "ls"],
        ["service", "create", "nginx"],
        ["swarm", "join-token", "worker"],
    ):
        assert (
            "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state."
            in refused(worker, *argv)
        )
    text = refused(worker, "network", "create", "-d", "overlay", "wnet")
    assert (
        "Cannot create a multi-host network from a worker node. Please create the network from a manager node."
        in text
    )


@pytest.fixture
def lone(swarm: Lab) -> Machine:
    """worker2, out of the swarm for one test, and back in it afterwards."""
    worker = swarm.machines["worker2"]
    node = next(n["ID"] for n in swarm.manager.api("/nodes") if n["Description"]["Hostname"] == "worker2")
    worker.shoal("swarm", "leave")
    swarm.wait_node("worker2", "down")
    swarm.manager.shoal("node", "rm", node)
    yield worker
    worker.shoal("swarm", "leave", "--force", check=False)
    token = swarm.manager.shoal("swarm", "join-token", "-q", "worker").stdout.strip()
    worker.shoal("swarm", "join", "--token", token, f"{swarm.manager.addr}:2377")
    swarm.wait_node("worker2", "ready")


def test_refused_joins_leave_the_node_inactive(lone: Machine, swarm: Lab) -> None:
    good = swarm.manager.shoal("swarm", "join-token", "-q", "worker").stdout.strip()
    head, _, secret = good.rpartition("-")
    digest = head.rpartition("-")[2]
    where = f"{swarm.manager.addr}:2377"
    began = time.monotonic()
    wrong_secret = refused(lone, "swarm", "join", "--token", f"{head}-{'0' * len(secret)}", where)
    assert "A valid join token is necessary to join this cluster" in wrong_secret
    assert time.monotonic() - began < ANSWERED
    wrong_root = refused(lone, "swarm", "join", "--token", f"SWMTKN-1-{'1' * len(digest)}-{secret}", where)
    assert "remote CA does not match fingerprint. Expected:" in wrong_root
    assert "invalid join token" in refused(lone, "swarm", "join", "--token", "nonsense", where)
    began = time.monotonic()
    assert "connection refused" in refused(
        lone, "swarm", "join", "--token", good, f"{swarm.manager.addr}:2399"
    )
    assert time.monotonic() - began < ANSWERED
    began = time.monotonic()
    assert refused(lone, "swarm", "join", "--token", good, "10.99.0.77:2377")
    assert time.monotonic() - began < ANSWERED
    assert lone.api("/info")["Swarm"]["LocalNodeState"] == "inactive"
    assert "This node is not a swarm manager. Use" in refused(lone, "node", "ls")
    assert "This node is not part of a swarm" in refused(lone, "swarm", "leave")


def test_leaving_the_last_manager_needs_force(swarm: Lab) -> None:
    text = refused(swarm.manager, "swarm", "leave")
    assert "Removing the last manager erases all current state of the swarm" in text


def test_port_2377_gives_nothing_to_strangers(swarm: Lab) -> None:
    """Plain text, and TLS without or with a foreign certificate: not one byte of an answer."""
    script = f"""
import os, socket, ssl, subprocess, tempfile
address = ({swarm.manager.addr!r}, 2377)
with socket.create_connection(address, timeout=5) as s:
    s.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    s.settimeout(5)
    try:
        data = s.recv(100)
    except OSError:
        data = b""
    # A TLS alert is all that it may say.
    print("plain", data[:1] in (b"", b"\\x15"))
folder = tempfile.mkdtemp()
subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                "-subj", "/O=x/OU=swarm-manager/CN=x", "-keyout", folder + "/k", "-out", folder + "/c"], check=True, capture_output=True)
for own in (False, True):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if own:
        context.load_cert_chain(folder + "/c", folder + "/k")
    try:
        with context.wrap_socket(socket.create_connection(address, timeout=5)) as s:
            s.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + b"\\0\\0\\0\\4\\0\\0\\0\\0\\0")
            data = s.recv(100)
    except OSError:
        data = b""
    print("foreign" if own else "none", data == b"")
"""
    out = swarm.outside("python3", "-", input=script)
    assert out.split() == ["plain", "True", "none", "True", "foreign", "True"]


def test_a_cloned_machine_is_refused(swarm: Lab) -> None:
    """worker2 starts with a copy of worker1's state: it is told so, and worker1 is not disturbed."""
    one, two = swarm.machines["worker1"], swarm.machines["worker2"]
    state = one.run("sh", "-c", "tar -C /var/lib/shoal -cf - agent | base64").stdout
    two.sh(
        "systemctl stop shoal-agent.socket shoal-agent && mv /var/lib/shoal/agent /var/lib/shoal/own && base64 -d | tar -C /var/lib/shoal -xf -",
        input=state,
    )
    try:
        two.sh("systemctl start shoal-agent.socket shoal-agent")

        def told() -> bool:
            done = two.docker("info", check=False)
            return "belongs to another machine" in done.stdout + done.stderr

        until(told, 30, "it is told that this is another machine's state")
        nodes = {n["Description"]["Hostname"]: n["Status"]["State"] for n in swarm.manager.api("/nodes")}
        assert nodes["worker1"] == "ready"
    finally:
        two.sh(
            "systemctl stop shoal-agent.socket shoal-agent; rm -rf /var/lib/shoal/agent && mv /var/lib/shoal/own /var/lib/shoal/agent && systemctl start shoal-agent.socket shoal-agent"
        )
        swarm.wait_node("worker2", "ready")
