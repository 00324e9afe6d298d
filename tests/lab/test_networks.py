"""Networks by the unchanged docker CLI: created with every option, used, moved between, inspected, removed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.lab.seals import lacking
from tests.lab.support import LOAD, Lab, Machine, until

pytestmark = pytest.mark.lab

OVERLAY = "com.docker.network.driver.overlay.vxlanid_list"


def made(machine: Machine, name: str, *options: str, by: str = "docker") -> str:
    """A network, by the docker CLI or ours; its id."""
    done = getattr(machine, by)("network", "create", "-d", "overlay", *options, name)
    return str(done.stdout.strip())


def refused(machine: Machine, *words: str, by: str = "docker") -> str:
    done = getattr(machine, by)(*words, check=False)
    assert done.returncode == 1, (words, done.stdout)
    return done.stderr


def refused_run(machine: Machine, *words: str) -> str:
    done = machine.docker("run", "--rm", *words, check=False)
    assert done.returncode == 125, (words, done.stdout, done.stderr)
    return done.stderr


def shown(machine: Machine, *names: str) -> Any:
    return json.loads(machine.docker("network", "inspect", *names).stdout)


def address_in(lab: Lab, task: dict[str, Any], network: str) -> str:
    return next(
        a["Addresses"][0] for a in task["NetworksAttachments"] if a["Network"]["Spec"]["Name"] == network
    )


def told(lab: Lab, task: dict[str, Any], name: str) -> set[str]:
    """What a task's resolver says of a name."""
    out = lab.task_exec(task, "nslookup", name, check=False)
    return set(re.findall(r"\d+\.\d+\.\d+\.\d+", out.partition(name)[2]))


@pytest.fixture
def clean(swarm: Lab) -> Iterator[Lab]:
    """What a test here makes is taken away, so that the next one begins where this one did."""
    before = set(swarm.manager.docker("network", "ls", "-q").stdout.split())
    services = set(swarm.manager.docker("service", "ls", "-q").stdout.split())
    yield swarm
    if new := set(swarm.manager.docker("service", "ls", "-q").stdout.split()) - services:
        swarm.manager.docker("service", "rm", *new)
    if new := set(swarm.manager.docker("network", "ls", "-q").stdout.split()) - before:
        swarm.manager.docker("network", "rm", *new)


def test_every_option_reaches_the_container(clean: Lab, say: Callable[[str], None]) -> None:
    """Range, reserved addresses, two subnets, MTU, internal: what a task's interface is like."""
    manager = clean.manager
    # docker sends several subnets in any order, shoal in that of its words: which is used first is seen.
    made(
        manager, "wide", "--subnet", "10.33.0.0/16", "--subnet", "10.34.0.0/24", "--gateway", "10.33.0.100",
        "--gateway", "10.34.0.100", "--ip-range", "10.33.7.0/30", "--aux-address", "printer=10.33.7.1",
        "--label", "env=dev", "--attachable", "--opt", "com.docker.network.driver.mtu=1300", by="shoal",
    )  # fmt: skip
    made(manager, "closed", "--internal")
    (wide,) = shown(manager, "wide")
    assert wide["IPAM"]["Config"] == [
        {"Subnet": "10.33.0.0/16", "IPRange": "10.33.7.0/30", "Gateway": "10.33.0.100",
         "AuxiliaryAddresses": {"printer": "10.33.7.1"}},
        {"Subnet": "10.34.0.0/24", "Gateway": "10.34.0.100"},
    ]  # fmt: skip
    assert (wide["Attachable"], wide["Labels"], wide["Containers"]) == (True, {"env": "dev"}, None)
    assert set(wide["Options"]) == {"com.docker.network.driver.mtu", OVERLAY}
    manager.docker(
        "service", "create", "-d", "--name", "far", "--replicas", "4", "--network", "wide", "alpine", "sleep", "1000",
    )  # fmt: skip
    manager.docker(
        "service", "create", "-d", "--name", "inside", "--network", "closed", "--hostname", "{{.Service.Name}}-{{.Task.Slot}}",
        "--dns", "192.0.2.53", "--dns-search", "example.org", "--dns-option", "timeout:1", "--host", "db:192.0.2.9",
        "--env", "WHERE={{.Node.Hostname}}", "alpine", "sleep", "1000",
    )  # fmt: skip
    tasks = clean.wait_running("far", 4)
    found = {address_in(clean, t, "wide"): t for t in tasks}
    # The VIP takes the first of the three in the range that are not kept, two tasks the others, and two go beyond; or
    # three, where a task failed at its start and another came in its place: addresses rest.
    first = [a for a in found if a.startswith("10.33.7.") and a.endswith("/16")]
    second = [a for a in found if a.startswith("10.34.0.") and a.endswith("/24")]
    ended = manager.docker("service", "ps", "--no-trunc", "far").stdout
    replaced = ended.count("\\_ far.")
    assert len(first) + len(second) == 4 and (len(first) == 2 or (replaced and first)), ended
    if replaced:
        said = [
            m.sh("journalctl -u shoal-agent -g attach -n 10 --no-pager || true")
            for m in clean.machines.values()
        ]
        say("\n".join([ended, *said]))
    link = clean.in_netns(found[first[0]], "ip", "addr", "show", "eth0")
    assert " mtu 1300 " in link and f"inet {first[0]} " in link
    for one, other in ((first[0], second[0]), (second[-1], first[-1])):
        ping = ("ping", "-c1", "-W2", other.partition("/")[0])
        until(
            lambda t=found[one], p=ping: " 0% packet loss" in clean.task_exec(t, *p, check=False),
            30,
            f"{other} answers",
        )
    (task,) = clean.wait_running("inside", 1)
    routes = clean.in_netns(task, "ip", "route")
    assert "default" not in routes and "dev eth0" in routes
    assert "eth1" not in clean.in_netns(task, "ip", "-o", "link")
    assert clean.task_exec(task, "hostname").strip() == "inside-1"
    resolv = clean.task_exec(task, "cat", "/etc/resolv.conf").split("\n")
    assert {"nameserver 127.0.0.11", "search example.org", "options timeout:1 ndots:0"} <= set(resolv)
    assert re.search(r"^192\.0\.2\.9\s+db$", clean.task_exec(task, "cat", "/etc/hosts"), re.M)
    assert f"WHERE={clean.node_of(task).name}" in clean.task_exec(task, "env").split()


def test_an_encrypted_network_takes_tasks_only_where_the_kernel_can_seal(clean: Lab) -> None:
    """The labs' machines share a kernel: all of them can, or the service and the single container say why not."""
    manager = clean.manager
    made(manager, "sealed", "--opt", "encrypted", "--attachable")
    assert shown(manager, "sealed")[0]["Options"]["encrypted"] == ""
    manager.docker(
        "service", "create", "-d", "--name", "sealed", "--network", "sealed", "busybox", "sleep", "600"
    )
    if not lacking():
        clean.wait_running("sealed", 1)
        return
    why = f"no suitable node (encrypted networks not supported on 3 nodes: no kernel module {lacking()})"

    def told() -> bool:
        words = ("service", "ps", "--no-trunc", "--format", "{{.CurrentState}}|{{.Error}}", "sealed")
        state, _, error = manager.docker(*words).stdout.strip().partition("|")
        return state.startswith("Pending") and error.strip('"') == why

    until(told, 60, "the reason in service ps")
    text = refused_run(manager, "--network", "sealed", "busybox", "true")
    assert f"this node's kernel has no module {lacking()}" in text


def test_refusals(clean: Lab) -> None:
    manager = clean.manager
    made(manager, "first", "--subnet", "10.30.0.0/24")
    for by in ("docker", "shoal"):
        for words, text in (
            (
                ("--subnet", "10.31.0.0/24", "--gateway", "10.99.0.1", "x"),
                "no matching subnet for gateway 10.99.0.1",
            ),
            (
                ("--subnet", "foo", "x"),
                "Error response from daemon: Invalid subnet foo : invalid CIDR address: foo",
            ),
            (("first",), "Error response from daemon: network with name first already exists"),
            (("docker_gwbridge",), "network with name docker_gwbridge already exists"),
            (("--subnet", "10.30.0.128/25", "x"), "overlaps subnet 10.30.0.0/24 of network first"),
            (
                ("--ingress", "--opt", "encrypted", "x"),
                "encrypted ingress networks are not supported",
            ),
            (("--scope", "local", "x"), "cannot downgrade network scope for overlay networks"),
            (
                ("bad name!",),
                "rpc error: code = InvalidArgument desc = name must be valid as a DNS name component",
            ),
            (("--ingress", "x"), "is already present"),
        ):
            assert text in refused(manager, "network", "create", "-d", "overlay", *words, by=by), words
        assert refused(manager, "network", "rm", "nosuch", by=by) == (
            "Error response from daemon: network nosuch not found\nexit status 1\n"
        )
    text = "port published with ingress mode can't be used with dnsrr mode"
    assert text in refused(
        manager, "service", "create", "-d", "--endpoint-mode", "dnsrr", "-p", "8099:80", "nginx"
    )
    text = 'expanding env failed: expanding env "N={{.Foo}}"'
    assert text in refused(manager, "service", "create", "-d", "--env", "N={{.Foo}}", "nginx")


def test_lists_and_removals(clean: Lab) -> None:
    manager, worker = clean.manager, clean.machines["worker1"]
    ids = {name: made(manager, name, "--label", f"n={name}") for name in ("one", "two", "three")}
    assert manager.docker("network", "ls", "-q", "--filter", "label=n=two").stdout.strip() == ids["two"][:12]
    listed = manager.docker(
        "network", "ls", "--no-trunc", "--filter", "name=^t", "--format", "{{.ID}} {{.Name}}"
    )
    assert set(listed.stdout.splitlines()) == {f"{ids['two']} two", f"{ids['three']} three"}
    assert [n["Name"] for n in shown(manager, "one", "two")] == ["one", "two"]
    assert json.loads(manager.docker("inspect", "two").stdout)[0]["Id"] == ids["two"]
    assert "one" not in worker.docker("network", "ls", "--format", "{{.Name}}").stdout.split()
    assert "network one not found" in refused(worker, "network", "inspect", "one")
    done = manager.docker("network", "rm", "one", ids["two"][:10], "nosuch", check=False)
    assert (done.returncode, done.stdout) == (1, f"one\n{ids['two'][:10]}\n")
    assert done.stderr == "Error response from daemon: network nosuch not found\nexit status 1\n"
    assert (
        manager.docker("network", "prune", "-f", "--filter", "label=n", "--filter", "label!=n=three").stdout
        == ""
    )
    pruned = manager.docker("network", "prune", "-f", "--filter", "label=n").stdout
    assert pruned == "Deleted Networks:\nthree\n\n"


def test_a_service_moves_to_another_network(clean: Lab) -> None:
    """As the labs do it: both flags in one rolling update, one task after the other."""
    manager = clean.manager
    made(manager, "old-net")
    made(manager, "new-net")
    manager.docker(
        "service", "create", "-d", "--name", "mover", "--replicas", "3", "--network", "name=old-net,alias=alt",
        "--stop-signal", "SIGKILL", "alpine", "sleep", "1000",
    )  # fmt: skip
    manager.docker(
        "service", "create", "-d", "--name", "asker", "--network", "old-net", "--network", "new-net", "alpine", "sleep", "1000",
    )  # fmt: skip
    clean.wait_running("mover", 3)
    (asker,) = clean.wait_running("asker", 1)
    until(lambda: clean.vip("mover", "old-net") in told(clean, asker, "alt"), 30, "the alias")
    text = refused(manager, "network", "rm", "old-net")
    assert re.search(
        r"rpc error: code = FailedPrecondition desc = network [0-9a-z]{25} is in use by service [0-9a-z]{25}",
        text,
    )
    assert text.endswith("exit status 1\n")
    out = manager.docker(
        "service", "update", "--network-add", "new-net", "--network-rm", "old-net", "mover", timeout=120
    ).stdout
    assert out.startswith("mover\n") and "converged" in out
    status = manager.api("/services/mover")["UpdateStatus"]
    assert (status["State"], status["Message"]) == ("completed", "update completed")
    for task in clean.wait_running("mover", 3):
        assert address_in(clean, task, "new-net")
    until(lambda: clean.vip("mover", "new-net") in told(clean, asker, "mover"), 30, "the name")
    manager.docker("service", "rm", "asker")
    clean.wait_gone("asker")

    def nobody() -> bool:
        workers = [m for name, m in clean.machines.items() if name != "manager"]
        shown_there = [m.docker("network", "ls", "--format", "{{.Name}}").stdout.split() for m in workers]
        return (
            all("old-net" not in names for names in shown_there)
            and not shown(manager, "old-net")[0]["Containers"]
        )

    until(nobody, 30, "nobody has a part in old-net")
    (old,) = shown(manager, "old-net")
    assert (old["Containers"], old.get("Peers")) == (None, None)
    for machine in clean.machines.values():
        (new,) = shown(machine, "new-net")
        mine = [t for t in clean.tasks("mover") if clean.node_of(t) is machine]
        names = {m["Name"] for m in new["Containers"].values()}
        assert names == {f"mover.{t['Slot']}.{t['ID']}" for t in mine} | {"new-net-endpoint"}
        assert "lb-new-net" in new["Containers"]
        assert sorted(p["IP"] for p in new["Peers"]) == sorted(m.addr for m in clean.machines.values())
    manager.docker("network", "rm", "old-net")


@pytest.mark.usefixtures("served")
def test_a_published_service_moves_and_no_connection_fails(web: Lab) -> None:
    """The labs' own commands, under connections from outside through every node."""
    manager = web.manager
    made(manager, "nginx-net-2")
    targets = [f"{m.addr}:80" for m in web.machines.values()]
    with web.load(["python3", str(LOAD), "http", "50", *targets]) as outside:
        out = manager.docker(
            "service", "update", "--network-add", "nginx-net-2", "--network-rm", "nginx-net", "my-nginx", timeout=120
        ).stdout  # fmt: skip
    try:
        assert "overall progress: 5 out of 5 tasks" in out and out.rstrip().endswith("converged")
        assert not outside.account["failed"], outside.account
        assert outside.account["ok"] > 200
        for task in web.wait_running("my-nginx", 5):
            assert address_in(web, task, "nginx-net-2")
        until(
            lambda: not shown(manager, "nginx-net")[0]["Containers"],
            30,
            "the last task has left the old network",
        )
        (old,), (new,) = shown(manager, "nginx-net"), shown(manager, "nginx-net-2")
        assert (old["Containers"], old["Labels"]) == (None, None)
        assert "lb-nginx-net-2" in new["Containers"] and len(new["Peers"]) == 3
    finally:
        manager.docker("service", "rm", "my-nginx")
        assert manager.docker("network", "rm", "nginx-net-2").stdout == "nginx-net-2\n"


def test_a_removed_network_serves_until_its_tasks_have_ended(clean: Lab) -> None:
    """`service rm` and `network rm` at once, as `stack rm` does: tasks that are still stopping keep their network."""
    manager = clean.manager
    network = made(manager, "brief-net", "--subnet", "10.36.0.0/24")
    manager.docker(
        "service", "create", "-d", "--name", "brief", "--replicas", "2", "--network", "brief-net", "--stop-grace-period", "5m",
        "alpine", "sleep", "1000",
    )  # fmt: skip
    one, other = clean.wait_running("brief", 2)
    assert one["NodeID"] != other["NodeID"]
    where = [clean.node_of(task) for task in (one, other)]
    target = address_in(clean, other, "brief-net").partition("/")[0]
    manager.docker("service", "rm", "brief")
    assert manager.docker("network", "rm", "brief-net").stdout == "brief-net\n"
    assert "network brief-net not found" in refused(manager, "network", "inspect", "brief-net")
    made(manager, "brief-net", "--subnet", "10.36.0.0/24")
    container = one["Status"]["ContainerStatus"]["ContainerID"]
    # alpine's sleep takes no notice of SIGTERM.
    where[0].run(
        "ctr", "-n", "shoal", "tasks", "exec", "--exec-id", "last-words", container, "ping", "-c3", "-W2", target
    )  # fmt: skip
    for task, machine in zip((one, other), where, strict=True):
        machine.run("kill", "-9", str(task["Status"]["ContainerStatus"]["PID"]))
    until(
        lambda: not any(network in m.run("ls", "/run/shoal/netns").stdout for m in where),
        30,
        "its namespaces gone with its tasks",
    )


def test_a_service_in_the_nodes_own_network(clean: Lab) -> None:
    manager = clean.manager
    manager.docker(
        "service", "create", "-d", "--name", "near", "--replicas", "3", "--network", "host", "--stop-signal", "SIGKILL",
        "alpine", "sleep", "1000",
    )  # fmt: skip
    for task in clean.wait_running("near", 3):
        node = clean.node_of(task)
        assert clean.task_exec(task, "hostname").strip() == node.name
        assert f"inet {node.addr}/" in clean.task_exec(task, "ip", "addr")
        assert clean.task_exec(task, "cat", "/etc/resolv.conf") == node.sh("cat /etc/resolv.conf")
    shown_pretty = manager.docker("service", "inspect", "--pretty", "near").stdout
    assert "Networks: host" in shown_pretty
    for machine in clean.machines.values():
        names = machine.docker("network", "ls", "--format", "{{.Name}} {{.Scope}}").stdout.splitlines()
        assert [name for name in names if name.startswith("host")] == ["host local"]
    manager.docker("service", "update", "-d", "--network-rm", "host", "near")
    assert "Networks" not in manager.api("/services/near")["Spec"]["TaskTemplate"]


def test_from_a_vip_to_names_of_tasks_and_back(clean: Lab) -> None:
    manager = clean.manager
    made(manager, "mode-net")
    for name, replicas in (("modal", "2"), ("asking", "1")):
        manager.docker(
            "service", "create", "-d", "--name", name, "--replicas", replicas, "--network", "mode-net", "alpine", "sleep", "1000",
        )  # fmt: skip
    tasks = clean.wait_running("modal", 2)
    (asking,) = clean.wait_running("asking", 1)
    addresses = {address_in(clean, t, "mode-net").partition("/")[0] for t in tasks}

    def answers() -> set[str]:
        return told(clean, asking, "modal")

    before = clean.vip("modal", "mode-net")
    until(lambda: answers() == {before}, 30, "the VIP and nothing else")
    manager.docker("service", "update", "-d", "--endpoint-mode", "dnsrr", "modal")
    until(lambda: answers() == addresses, 30, "the tasks' addresses and nothing else")
    assert "VirtualIPs" not in manager.api("/services/modal")["Endpoint"]
    manager.docker("service", "update", "-d", "--endpoint-mode", "vip", "modal")
    until(
        lambda: len(answers()) == 1 and answers() == {clean.vip("modal", "mode-net")}, 30, "one address again"
    )
    assert {t["ID"] for t in clean.wait_running("modal", 2)} == {t["ID"] for t in tasks}, (
        "no task was made anew"
    )


def test_another_ingress_network(clean: Lab) -> None:
    manager = clean.manager
    for service in manager.docker("service", "ls", "--format", "{{.Name}} {{.Ports}}").stdout.splitlines():
        if "->" in service:
            manager.docker("service", "rm", service.split()[0])

    def outcome(answer: str) -> tuple[int, str, str]:
        words = ("network", "rm", "ingress")
        done = manager.run("shoal", *words, input=answer, check=False)
        return done.returncode, done.stdout.rpartition("? ")[2], done.stderr

    manager.docker("service", "create", "-d", "--name", "pub", "-p", "8077:80", "nginx")
    clean.wait_running("pub", 1)
    code, out, err = outcome("y\n")
    assert (code, out) == (1, "[y/N] ") and "ingress network cannot be removed because service" in err
    manager.docker("service", "rm", "pub")
    clean.wait_gone("pub")
    assert outcome("n\n") == (0, "[y/N] ", "")
    assert outcome("y\n") == (0, "[y/N] ingress\n", "")
    try:
        assert "service needs ingress network, but no ingress network is present" in refused(
            manager, "service", "create", "-d", "-p", "8077:80", "nginx"
        )
        made(
            manager, "my-ingress", "--ingress", "--subnet=10.11.0.0/16", "--gateway=10.11.0.2",
            "--opt", "com.docker.network.driver.mtu=1200",
        )  # fmt: skip
        manager.docker(
            "service", "create", "-d", "--name", "pub", "--replicas", "2", "-p", "8077:80", "nginx"
        )
        clean.wait_running("pub", 2)
        clean.wait_served(8077, 2)
        for machine in clean.machines.values():
            assert machine.run("curl", "-sS", "--max-time", "30", "http://127.0.0.1:8077/whoami").stdout
            assert " mtu 1200 " in machine.run("ip", "link", "show", "shoal_ing").stdout
        (task, _) = clean.tasks("pub")
        assert " mtu 1200 " in clean.in_netns(task, "ip", "link", "show", "eth0")
        (ingress,) = shown(clean.machines["worker1"], "my-ingress")
        assert ingress["Ingress"] and ingress["Containers"]["my-ingress-sbox"]["IPv4Address"].startswith(
            "10.11."
        )
        manager.docker("service", "rm", "pub")
        clean.wait_gone("pub")
        manager.run("shoal", "network", "rm", "my-ingress", input="y\n")
    finally:
        if "ingress" not in manager.docker("network", "ls", "--format", "{{.Name}}").stdout.split():
            made(manager, "ingress", "--ingress")
