"""The routing mesh, VIPs and DNS: every task is reached, evenly, and sees who calls."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.lab.support import Lab, Machine, until

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("served")]


def test_every_node_reaches_every_task_evenly(web: Lab) -> None:
    targets = [f"{m.addr}:80" for m in web.machines.values()]
    for target, answers in web.connections(targets, 50).items():
        assert len(answers) == 5, (target, answers)
        assert all(8 <= n <= 12 for n in answers.values()), (target, answers)


def test_tasks_see_the_clients_own_address(web: Lab) -> None:
    """Asserted for each receiving node, by what nginx answers and by the access logs of tasks on other nodes."""
    targets = {m.name: f"{m.addr}:80" for m in web.machines.values()}
    found = web.connections(list(targets.values()), 20, "/client")
    for target in targets.values():
        assert found[target] == Counter({web.outside_addr: 20})
    for name, target in targets.items():
        web.connections([target], 10, f"/client?through={name}")
    for task in web.wait_running("my-nginx", 5):
        node = web.node_of(task)
        for name in targets:
            line = rf'^{re.escape(web.outside_addr)} - .*"GET /client\?through={name} '

            def logged(
                node: Machine = node,
                line: str = line,
                container: str = task["Status"]["ContainerStatus"]["ContainerID"],
            ) -> bool:
                return bool(re.search(line, node.docker("logs", container).stdout, re.M))

            until(
                logged,
                30,
                f"{task['ID']} on {node.name} logged the client's address of connections through {name}",
            )


def test_names_and_vip_in_a_task(web: Lab) -> None:
    tasks = web.wait_running("my-nginx", 5)
    service = web.manager.api("/services/my-nginx")
    networks = {n["Id"]: n["Name"] for n in web.manager.api("/networks")}
    vips = {networks[v["NetworkID"]]: v["Addr"].split("/")[0] for v in service["Endpoint"]["VirtualIPs"]}
    addresses = {
        a["Addresses"][0].split("/")[0]
        for t in tasks for a in t["NetworksAttachments"] if a["Network"]["Spec"]["Name"] == "nginx-net"
    }  # fmt: skip
    assert len(addresses) == 5
    manager = web.manager
    manager.docker(
        "service", "create", "-d", "--name", "client", "--network", "nginx-net", "--stop-signal", "SIGKILL",
        "alpine", "sleep", "100000",
    )  # fmt: skip
    try:
        (client,) = web.wait_running("client", 1)
        shown = web.task_exec(client, "nslookup", "my-nginx")
        assert vips["nginx-net"] in shown
        assert "127.0.0.11" in shown

        def all_are_told() -> bool:
            told = web.task_exec(client, "nslookup", "tasks.my-nginx", check=False)
            return addresses <= set(re.findall(r"\d+\.\d+\.\d+\.\d+", told))

        until(all_are_told, 30, "the addresses of all tasks by name")
        assert web.outside_addr in web.task_exec(client, "nslookup", "outside.test")
        assert "NXDOMAIN" in web.task_exec(client, "nslookup", "nosuchname", check=False)
        # docker_gwbridge is the way out.
        assert web.task_exec(client, "wget", "-qO-", f"http://{web.outside_addr}/")
        answers = Counter(
            web.task_exec(
                client,
                "sh",
                "-c",
                "for i in $(seq 50); do wget -qO- http://my-nginx/whoami || echo FAILED; done",
            ).split()
        )
        assert len(answers) == 5 and all(8 <= n <= 12 for n in answers.values()), answers
        # Without masquerade the other side sees the container itself.
        mine = next(
            a["Addresses"][0].split("/")[0]
            for a in client["NetworksAttachments"]
            if a["Network"]["Spec"]["Name"] == "nginx-net"
        )
        assert web.task_exec(client, "wget", "-qO-", "http://my-nginx/client").strip() == mine
    finally:
        manager.docker("service", "rm", "client")


def test_a_task_reaches_its_own_vip(web: Lab) -> None:
    task = web.wait_running("my-nginx", 5)[0]
    vip = web.vip("my-nginx", "nginx-net")
    fetch = f"""
import urllib.request
print(*[urllib.request.urlopen("http://{vip}/whoami", timeout=5).read().decode().strip() for _ in range(10)])
"""
    answers = web.in_netns(task, "python3", "-", input=fetch).split()
    own = web.task_exec(task, "hostname").strip()
    assert answers.count(own) == 2, (own, answers)


def test_equal_five_tuples_through_two_nodes(web: Lab) -> None:
    """One client port to two nodes at the same time, again and again: conntrack zones keep them apart."""
    addresses = [m.addr for m in web.machines.values()]
    script = f"""
import socket
bad = 0
for port in range(20000, 20030):
    socks = []
    for address in {addresses!r}:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(({web.outside_addr!r}, port))
        s.settimeout(5)
        try:
            s.connect((address, 80))
            s.sendall(b"GET /client HTTP/1.0\\r\\n\\r\\n")
        except OSError as exc:
            bad += 1
        socks.append(s)
    for s in socks:
        data = b""
        try:
            while chunk := s.recv(4096):
                data += chunk
        except OSError:
            pass
        bad += {web.outside_addr.encode()!r} not in data
        s.close()
print("bad", bad)
"""
    assert web.outside("python3", "-", input=script).split() == ["bad", "0"]
