"""Networks of a machine's own by the unchanged docker CLI: bridges, the default one, connect and disconnect, published ports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.support import Lab, Machine, until

pytestmark = pytest.mark.lab

NETWORKS = ("one", "two", "inner", "apart", "att")
SERVE = ("sh", "-c", "hostname >/tmp/index.html; cd /tmp; httpd -f -p 80")


@pytest.fixture
def machine(swarm: Lab) -> Iterator[Machine]:
    """A worker; afterwards nothing of what is tested here is left on it."""
    worker = swarm.machines["worker2"]
    until(lambda: not left_over(worker), 30, "nothing left of the tests before")
    yield worker
    if mine := worker.docker("ps", "-aq", "--filter", "is-task=false").stdout.split():
        worker.docker("rm", "-f", *mine)
    worker.docker("network", "rm", "-f", *NETWORKS, check=False)
    swarm.manager.docker("network", "rm", "-f", "att", check=False)
    until(lambda: not left_over(worker), 30, "the machine as it was before")


def left_over(machine: Machine) -> list[str]:
    """Bridges of the machine's own, their ports and rules, single containers' namespaces, local networks."""
    script = (
        "ip -o -d link show type bridge | grep 'alias shoal' || true; ls /sys/class/net | grep -E '^b[0-9a-z]{13}$' || true;"
        " nft list tables | grep shoal_local || true; ls /run/shoal/netns | grep -E '^t-[0-9a-f]{64}$' || true"
    )
    listed = machine.docker(
        "network", "ls", "--filter", "scope=local", "--format", "{{.Name}}"
    ).stdout.split()
    known = {"bridge", "host", "none", "docker_gwbridge"}
    return [*machine.sh(script).splitlines(), *(name for name in listed if name not in known)]


def inspected(machine: Machine, name: str) -> dict[str, Any]:
    (shown,) = json.loads(machine.docker("inspect", name).stdout)
    return dict(shown)


def address(machine: Machine, name: str, network: str) -> str:
    return str(inspected(machine, name)["NetworkSettings"]["Networks"][network]["IPAddress"])


def refused(machine: Machine, *words: str) -> str:
    done = machine.docker(*words, check=False)
    assert done.returncode, (words, done.stdout, done.stderr)
    return done.stderr


def ping(machine: Machine, name: str, target: str) -> bool:
    return not machine.docker("exec", name, "ping", "-c1", "-W1", target, check=False).returncode


def reaches(machine: Machine, name: str, *targets: str) -> None:
    for target in targets:
        until(lambda to=target: ping(machine, name, to), 30, f"{name} reaches {target}")


def get(address: str, port: object) -> str:
    return f"curl -s -m 3 http://{address}:{port} || true"


def from_outside(lab: Lab, machine: Machine, port: object) -> str:
    return lab.outside("sh", "-c", get(machine.addr, port)).strip()


def test_bridges(swarm: Lab, machine: Machine) -> None:
    """Two networks and the default one: names, isolation, the way out, what inspection shows, what is refused."""
    docker = machine.docker
    made = docker("network", "create", "--subnet", "172.28.0.0/16", "--ip-range", "172.28.5.0/24", "--gateway",
                  "172.28.5.254", "--aux-address", "other=172.28.5.0", "--label", "a=b", "--opt",
                  "com.docker.network.bridge.name=lab-one", "one").stdout.strip()  # fmt: skip
    assert re.fullmatch("[0-9a-f]{64}", made)
    docker("network", "create", "two")
    docker("network", "create", "--internal", "inner")
    (shown,) = json.loads(docker("network", "inspect", "one").stdout)
    assert (shown["Scope"], shown["Driver"], shown["Labels"]) == ("local", "bridge", {"a": "b"})
    assert shown["IPAM"]["Config"] == [
        {"Subnet": "172.28.0.0/16", "IPRange": "172.28.5.0/24", "Gateway": "172.28.5.254",
         "AuxiliaryAddresses": {"other": "172.28.5.0"}}
    ]  # fmt: skip
    assert "172.28.5.254/16" in machine.sh("ip -4 addr show lab-one")
    assert "already exists" in refused(machine, "network", "create", "one")
    assert "Pool overlaps with other one" in refused(
        machine, "network", "create", "--subnet", "172.28.9.0/24", "x"
    )
    for name, *words in (
        ("c1", "--network", "one", "--network-alias", "al"), ("c2", "--network", "one", "--ip", "172.28.7.7"),
        ("c3", "--network", "two"), ("c4", "--network", "inner"), ("c5",), ("c6",),
    ):  # fmt: skip
        docker("run", "-d", "--name", name, *words, "alpine", "sleep", "1000")
    assert (address(machine, "c1", "one"), address(machine, "c2", "one")) == ("172.28.5.1", "172.28.7.7")
    reaches(machine, "c2", "c1", "al", "c1.one", inspected(machine, "c1")["Id"][:12])
    reaches(machine, "c5", address(machine, "c6", "bridge"))
    outside = swarm.manager.addr
    for name in ("c1", "c3", "c5"):
        reaches(machine, name, outside)
    assert not ping(machine, "c4", outside) and not ping(machine, "c5", "c6")
    for name, target in (("c1", address(machine, "c3", "two")), ("c5", address(machine, "c1", "one"))):
        assert not ping(machine, name, target)
    (shown,) = json.loads(docker("network", "inspect", "one").stdout)
    assert {m["Name"]: m["IPv4Address"] for m in shown["Containers"].values()} == {
        "c1": "172.28.5.1/16", "c2": "172.28.7.7/16",
    }  # fmt: skip
    # Taken away by somebody else, and back.
    machine.sh("ip link del lab-one; nft delete table ip shoal_local")
    reaches(machine, "c2", "c1")
    reaches(machine, "c1", outside)
    assert "has active endpoints" in refused(machine, "network", "rm", "one")
    assert "Address already in use" in refused(
        machine, "run", "--network", "one", "--ip", "172.28.7.7", "alpine", "true"
    )
    assert "user configured subnets" in refused(
        machine, "run", "--network", "two", "--ip", "172.19.0.9", "alpine", "true"
    )
    # The agent's death is nothing to them.
    machine.kill9("shoal-agent")
    until(lambda: machine.docker("ps", check=False).returncode == 0, 30, "the agent")
    reaches(machine, "c2", "c1")
    reaches(machine, "c3", outside)
    assert docker("network", "prune", "-f").stdout == ""
    docker("rm", "-f", "c1", "c2", "c3")
    pruned = docker("network", "prune", "-f").stdout.split()
    assert {"one", "two"} <= set(pruned) and "inner" not in pruned
    assert "lab-one" not in machine.sh("ip -br link")


def test_connect_and_disconnect(swarm: Lab, machine: Machine) -> None:
    """While containers run and while they don't, on bridges and in an overlay; Docker's refusals."""
    docker = machine.docker
    swarm.manager.docker("network", "create", "-d", "overlay", "--attachable", "att")
    docker("network", "create", "--subnet", "172.28.0.0/16", "one")
    docker("network", "create", "two")
    docker("run", "-d", "--name", "c1", "alpine", "sleep", "1000")
    docker("run", "-d", "--name", "c2", "--network", "one", "alpine", "sleep", "1000")
    swarm.manager.docker("run", "-d", "--rm", "--name", "far", "--network", "att", "alpine", "sleep", "1000")
    try:
        docker("network", "connect", "--ip", "172.28.3.3", "--alias", "al", "one", "c1")
        assert address(machine, "c1", "one") == "172.28.3.3"
        reaches(machine, "c2", "al")
        reaches(machine, "c1", "c2")
        assert "already exists in network one" in refused(machine, "network", "connect", "one", "c1")
        docker("network", "connect", "att", "c1")
        reaches(machine, "c1", "far")
        reaches(swarm.manager, "far", "c1")
        assert "is already attached to network att" in refused(machine, "network", "connect", "att", "c1")
        docker("network", "disconnect", "bridge", "c1")
        reaches(machine, "c1", swarm.manager.addr, "c2", "far")
        docker("network", "disconnect", "one", "c1")
        reaches(machine, "c1", swarm.manager.addr)
        assert not ping(machine, "c2", "al")
        docker("network", "disconnect", "att", "c1")
        assert machine.docker("exec", "c1", "ip", "route").stdout == ""
        docker("network", "connect", "two", "c1")
        reaches(machine, "c1", swarm.manager.addr)
        assert "is not connected to network one" in refused(machine, "network", "disconnect", "one", "c1")
        docker("stop", "-t", "0", "c1")
        docker("network", "connect", "one", "c1")
        docker("network", "disconnect", "two", "c1")
        docker("start", "c1")
        reaches(machine, "c2", "c1")
        assert list(inspected(machine, "c1")["NetworkSettings"]["Networks"]) == ["one"]
    finally:
        swarm.manager.docker("rm", "-f", "far")
    for network, said in (
        ("host", "container cannot be disconnected from host network or connected to host network"),
        ("nginx-net", "not manually attachable"), ("nosuch", "network nosuch not found"),
    ):  # fmt: skip
        assert said in refused(machine, "network", "connect", network, "c1")
    assert "No such container: nosuch" in refused(machine, "network", "connect", "one", "nosuch")
    shared = docker("run", "--rm", "--network", "container:c1", "alpine", "ip", "-4", "addr").stdout
    assert address(machine, "c1", "one") in shared


def test_published_ports(swarm: Lab, machine: Machine) -> None:
    """On all addresses and on one, ranges, UDP, from outside and from the machine itself; clashes."""
    docker = machine.docker
    docker("run", "-d", "--name", "web", "-p", "8080:80", "-p", "127.0.0.1:8081:80", "-p", "9000-9001:80-81", "-p",
           "5353:53/udp", "--hostname", "w", "alpine", *SERVE)  # fmt: skip
    docker("run", "-d", "--name", "all", "-P", "--expose", "80", "--hostname", "all", "alpine", *SERVE)
    assert docker("port", "web", "80").stdout.split() == ["0.0.0.0:8080", "0.0.0.0:9000", "127.0.0.1:8081"]
    dynamic = docker("port", "all", "80").stdout.strip().rpartition(":")[2]
    assert int(dynamic) >= 49153
    ports = docker("ps", "--filter", "name=web", "--format", "{{.Ports}}").stdout
    assert all(text in ports for text in ("0.0.0.0:8080->80/tcp", "127.0.0.1:8081->80/tcp", "5353->53/udp"))
    for port, said in ((8080, "w"), (9000, "w"), (dynamic, "all")):
        until(lambda p=port, w=said: from_outside(swarm, machine, p) == w, 30, f"{port} from outside")
    for where, port in (("127.0.0.1", 8080), ("127.0.0.1", 8081), (machine.addr, 9000)):
        until(lambda w=where, p=port: machine.sh(get(w, p)).strip() == "w", 30, f"{where}:{port}")
    assert from_outside(swarm, machine, 8081) == from_outside(swarm, machine, 9001) == ""
    inside = f"wget -q -O- http://{machine.addr}:8080"
    until(lambda: docker("exec", "all", "sh", "-c", inside, check=False).stdout == "w\n", 30, "a neighbour")
    for words in (("-p", "8080:80"), ("-p", "127.0.0.1:8080:80"), ("-p", "8081:80")):
        said = refused(machine, "run", "--rm", *words, "alpine", "true")
        assert re.search(
            r"Bind for (0\.0\.0\.0|127\.0\.0\.1):808[01] failed: port is already allocated", said
        ), said
    # What listens on the machine itself, and what the swarm has.
    assert "port is already allocated" in refused(machine, "run", "--rm", "-p", "7946:80", "alpine", "true")
    machine.kill9("shoal-agent")
    until(lambda: from_outside(swarm, machine, 9000) == "w", 30, "9000 without an agent")
    until(lambda: machine.docker("ps", check=False).returncode == 0, 30, "the agent")
    docker("rm", "-f", "web")
    docker("run", "--rm", "-p", "8080:80", "alpine", "true")


@pytest.fixture
def both(swarm: Lab, machine: Machine) -> Iterator[tuple[str, str]]:
    """IPv6 addresses of the machine and of the world outside, for as long as a test lasts."""
    legs = {"fd66::41": machine.run, "fd66::42": swarm.outside}
    find = "ip -o -4 addr show scope global | grep ' 10.99.0.' | cut -d' ' -f2"
    devices = {"fd66::41": machine.sh(find).strip(), "fd66::42": swarm.outside("sh", "-c", find).strip()}
    for address, run in legs.items():
        run("ip", "addr", "replace", f"{address}/64", "dev", devices[address], "nodad")
    yield "fd66::41", "fd66::42"
    for address, run in legs.items():
        run("ip", "addr", "del", f"{address}/64", "dev", devices[address])


def test_both_families(swarm: Lab, machine: Machine, both: tuple[str, str]) -> None:
    """IPv6 beside IPv4: addresses, names, the way out, published ports, what is taken away; by shoal's own words, too."""
    docker, (own, outside) = machine.docker, both
    machine.shoal("network", "create", "--ipv6", "--subnet", "fd00:28::/64", "one")
    bridge = f"br-{docker('network', 'inspect', '-f', '{{.Id}}', 'one').stdout[:12]}"
    docker("network", "create", "--ipv6", "--internal", "inner")
    docker("run", "-d", "--name", "web", "--network", "one", "-p", "8080:80", "-p", "[::1]:8081:80", "--hostname",
           "w", "alpine", *SERVE)  # fmt: skip
    machine.shoal(
        "run", "-d", "--name", "c1", "--network", "one", "--ip6", "fd00:28::9", "alpine", "sleep", "1000"
    )
    docker("run", "-d", "--name", "c2", "alpine", "sleep", "1000")
    docker("run", "-d", "--name", "c3", "--network", "inner", "alpine", "sleep", "1000")
    shown = inspected(machine, "web")["NetworkSettings"]
    assert shown["Networks"]["one"]["GlobalIPv6Address"] == "fd00:28::2"
    assert shown["Ports"]["80/tcp"] == [
        {"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"},
        {"HostIp": "::1", "HostPort": "8081"},
    ]  # fmt: skip
    assert machine.shoal("port", "web", "80").stdout.split() == ["0.0.0.0:8080", "[::1]:8081", "[::]:8080"]

    def works(case: str) -> None:
        for where, port in ((own, 8080), ("::1", 8080), ("::1", 8081)):
            until(
                lambda w=where, p=port: machine.sh(get(f"[{w}]", p)).strip() == "w",
                30,
                f"{where}:{port} {case}",
            )
        there = get(f"[{own}]", 8080)
        until(lambda: swarm.outside("sh", "-c", there).strip() == "w", 30, f"from outside {case}")
        reaches(machine, "c1", "fd00:28::2", outside)

    works("at first")
    assert not docker("exec", "c1", "ping", "-6", "-c1", "-W1", "web").returncode
    answer = docker("exec", "c1", "nslookup", "fd00:28::2", "127.0.0.11").stdout
    assert "web.one" in answer
    assert swarm.outside("sh", "-c", get(f"[{own}]", 8081)).strip() == ""  # [::1] is the machine's own
    assert not ping(machine, "c2", "fd00:28::2") and not ping(machine, "c3", "fd00:28::2")
    for words, text in (
        (("--network", "one", "--ip6", "fd00:28::9"), "Address already in use"),
        (("--network", "one", "-p", "[::]:8080:80"), "Bind for :::8080 failed: port is already allocated"),
        (("-p", "[::1]:8090:80"), "is not supported for a container without an IPv6 address"),
    ):
        assert text in refused(machine, "run", "--rm", *words, "alpine", "true")
    docker("network", "connect", "--ip6", "fd00:28::77", "one", "c2")
    reaches(machine, "c2", "fd00:28::2", outside)
    docker("network", "disconnect", "one", "c2")
    assert "inet6" not in docker("exec", "c2", "ip", "addr").stdout
    machine.kill9("shoal-agent")
    machine.sh(f"ip link del {bridge}; nft delete table ip6 shoal_local")
    until(lambda: machine.docker("ps", check=False).returncode == 0, 30, "the agent")
    works("after the agent's death, and without bridge and rules")


def test_what_else_is_done_to_containers(swarm: Lab, machine: Machine) -> None:
    """Restart policies, pause, rename, top; and networks by shoal's own words."""
    docker = machine.docker
    machine.shoal("network", "create", "--subnet", "172.28.0.0/24", "one")
    script = "sleep 0.2; exit 3"
    docker("run", "-d", "--name", "fails", "--restart", "on-failure:2", "alpine", "sh", "-c", script)
    docker(
        "run", "-d", "--name", "stays", "--restart", "always", "--network", "one", "alpine", "sleep", "1000"
    )
    docker("run", "-d", "--name", "other", "alpine", "sleep", "1000")
    machine.shoal("network", "connect", "one", "other")
    reaches(machine, "other", "stays")
    docker("rename", "stays", "renamed")
    reaches(machine, "other", "renamed")
    assert not ping(machine, "other", "stays")
    docker("pause", "renamed")
    assert "(Paused)" in docker("ps", "--filter", "name=renamed").stdout
    docker("unpause", "renamed")
    assert "sleep 1000" in docker("top", "renamed").stdout
    first = inspected(machine, "renamed")["State"]["Pid"]
    machine.sh(f"kill -9 {first}")
    until(lambda: inspected(machine, "renamed")["State"]["Pid"] not in (0, first), 30, "its restart")
    reaches(machine, "other", "renamed")
    until(lambda: inspected(machine, "fails")["RestartCount"] == 2, 30, "two restarts")
    until(lambda: inspected(machine, "fails")["State"]["Status"] == "exited", 30, "no third one")
    docker("stop", "-t", "0", "renamed")
    assert inspected(machine, "renamed")["State"]["Status"] == "exited"
    machine.shoal("network", "disconnect", "one", "other")
    machine.shoal("network", "rm", "one")


def test_links(machine: Machine) -> None:
    """On the default bridge hosts and variables that follow the other; in a network with names a name of one's own."""
    docker = machine.docker
    docker("run", "-d", "--name", "other", "-e", "A=1", "--expose", "80", "alpine", "sleep", "1000")
    docker(
        "run", "-d", "--name", "me", "--link", "other:db", "alpine", "sh", "-c", "env >/env; exec sleep 1000"
    )

    def told() -> tuple[str, str]:
        where = address(machine, "other", "bridge")
        env = docker("exec", "me", "env").stdout
        assert {f"DB_PORT=tcp://{where}:80", "DB_NAME=/me/db", "DB_ENV_A=1"} <= set(env.splitlines())
        hosts = docker("exec", "me", "cat", "/etc/hosts").stdout
        assert f"{where}\tdb {inspected(machine, 'other')['Id'][:12]} other\n" in hosts
        return where, env

    before, env = told()
    until(
        lambda: docker("exec", "me", "cat", "/env").stdout.count("DB_") == env.count("DB_"),
        30,
        "its own, too",
    )
    docker("stop", "-t", "0", "other")
    assert "Cannot link to a non running container: /other AS /me/db" in refused(
        machine, "exec", "me", "true"
    )
    docker("run", "-d", "--name", "filler", "alpine", "sleep", "1000")
    docker("start", "other")
    assert told()[0] != before
    assert docker("inspect", "-f", "{{.Name}} {{.HostConfig.Links}}", "me/db", "me").stdout.splitlines() == [
        "/other []", "/me [/other:/me/db]",
    ]  # fmt: skip
    docker("network", "create", "one")
    docker("network", "connect", "one", "other")
    docker("network", "connect", "--link", "other:named", "one", "me")
    reaches(machine, "me", "named", "named.one")
    assert not ping(machine, "other", "named")
