"""What every machine's kernel and resolver should say by the store, and what differs (kernel_state.py tells what they do say).

The store is asked through a manager's Engine API, when nothing moves any more. Used by cycles.py.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.support import Lab, Machine

SCRIPT = Path(__file__).with_name("kernel_state.py")
ENDED = {"complete", "shutdown", "failed", "rejected", "remove", "orphaned"}
Kernel = Mapping[str, Any]  # by namespace


@dataclass
class Truth:
    """The store, as far as networks are made of it."""

    nodes: dict[str, str]  # host name by id
    vteps: dict[str, str]  # address by host name
    ready: bool
    services: list[dict[str, Any]]
    networks: dict[str, dict[str, Any]]
    tasks: list[dict[str, Any]]
    restless: str = ""  # why this isn't how it stays
    addresses: dict[str, set[str]] = field(default_factory=dict)  # of all that run

    @property
    def ingress(self) -> str:
        return next((n["Id"] for n in self.networks.values() if n["Ingress"]), "")

    def on(self, node: str) -> list[dict[str, Any]]:
        """The tasks of a machine."""
        return [t for t in self.tasks if self.nodes[t["NodeID"]] == node]


def address_of(task: dict[str, Any], network: str) -> str:
    """A task's address in a network, with prefix length."""
    for each in task.get("NetworksAttachments") or ():
        if each["Network"]["ID"] == network and each.get("Addresses"):
            return str(each["Addresses"][0])
    return ""


def address6_of(task: dict[str, Any], network: str) -> str:
    """The same of IPv6; empty where it has none."""
    for each in task.get("NetworksAttachments") or ():
        if each["Network"]["ID"] == network:
            return next((str(a) for a in each.get("Addresses") or () if ":" in a), "")
    return ""


def plain(address: str) -> str:
    return address.partition("/")[0]


def ask(lab: Lab) -> Truth:
    """The store now; raises what Machine.api raises while nobody answers."""
    via = lab.manager
    nodes = via.api("/nodes")
    services, tasks = via.api("/services"), via.api("/tasks")
    networks = {n["Id"]: n for n in via.api("/networks") if n["Scope"] == "swarm"}
    truth = Truth(
        {n["ID"]: n["Description"]["Hostname"] for n in nodes},
        {m.name: m.addr for m in lab.machines.values()},
        all(n["Status"]["State"] == "ready" for n in nodes),
        services, networks, [t for t in tasks if t["Status"]["State"] == "running"],
    )  # fmt: skip
    truth.restless = restless(truth, tasks)
    for network in networks:
        each = (address_of(t, network) for t in truth.tasks)
        other = (address6_of(t, network) for t in truth.tasks)
        truth.addresses[network] = {plain(a) for a in (*each, *other) if a}
    return truth


def restless(truth: Truth, tasks: list[dict[str, Any]]) -> str:
    """What is still to happen."""
    if not truth.ready:
        return "a node is not ready"
    for task in tasks:
        state, wanted = task["Status"]["State"], task["DesiredState"]
        if state not in ENDED and (state != "running" or wanted != "running"):
            return f"task {task['ID']} is {state} and to be {wanted}"
    for service in truth.services:
        wanted = service["Spec"]["Mode"].get("Replicated", {}).get("Replicas")
        running = sum(t["ServiceID"] == service["ID"] for t in truth.tasks)
        if wanted is not None and running != wanted:
            return f"service {service['Spec']['Name']} has {running} of {wanted} tasks"
        # A task that fails because its agent is killed while it starts has its update paused, as Docker's default is.
        if service.get("UpdateStatus", {}).get("State") in ("updating", "rollback_started"):
            return f"service {service['Spec']['Name']} is being updated"
    return ""


def kernels(machines: Collection[Machine], names: Collection[str]) -> dict[str, Kernel]:
    """What stands in each of them."""
    return run(machines, "read", *names)


def run(machines: Collection[Machine], *words: str) -> dict[str, Kernel]:
    """kernel_state.py in all machines at once."""

    def one(machine: Machine) -> Kernel:
        found: Kernel = json.loads(machine.run("python3", "-", *words, input=SCRIPT.read_text()).stdout)
        return found

    with ThreadPoolExecutor(len(machines)) as pool:
        return {m.name: found for m, found in zip(machines, pool.map(one, machines), strict=True)}


# ---- what differs


def differences(truth: Truth, found: Mapping[str, Kernel], names: Collection[str]) -> list[str]:
    """Every difference, in words."""
    legs = {node: kernel[""]["links"].get("shoal_ing", []) for node, kernel in found.items()}
    said: list[str] = []
    for node, kernel in found.items():
        for what, have, want in _compared(truth, node, kernel, legs, names):
            if have != want:
                said.append(f"{node} {what}: {have!r}, not {want!r}")
    return said


def _compared(
    truth: Truth, node: str, kernel: Kernel, legs: Mapping[str, list[str]], names: Collection[str]
) -> Iterator[tuple[str, object, object]]:
    tasks = {f"t-{t['ID']}": t for t in truth.on(node)}
    ports: dict[str, int] = defaultdict(int)
    for task in tasks.values():
        for each in task.get("NetworksAttachments") or ():
            ports[each["Network"]["ID"]] += 1
    if truth.ingress:
        ports[truth.ingress] += 1
    yield "namespaces", sorted(kernel), sorted(["", *tasks, *(f"n-{n}" for n in ports)])
    yield from _host(truth, kernel[""], len(tasks), legs[node])
    vteps = {name: address for name, address in truth.vteps.items() if name != node}
    for network, count in ports.items():
        if f"n-{network}" in kernel:
            yield from _sandbox(truth, network, kernel[f"n-{network}"], count, vteps, legs)
    for name, task in tasks.items():
        if name in kernel:
            yield from _task(truth, name, task, kernel[name], names)


def _host(
    truth: Truth, host: Mapping[str, Any], tasks: int, leg: list[str]
) -> Iterator[tuple[str, object, object]]:
    gateways = [name for name in host["links"] if len(name) == 14 and name.startswith("g")]
    yield "legs in docker_gwbridge", len(gateways), tasks
    dual = any(address6_of(t, truth.ingress) for t in truth.tasks)
    yield "legs in the ingress network", len(leg), bool(truth.ingress) * (1 + dual)
    published = {}
    for service in truth.services:
        for port in service["Endpoint"].get("Ports") or ():
            if port.get("PublishMode") == "ingress":
                name = f"{port['Protocol']}/{port['PublishedPort']}"
                published[name] = _serving(truth, service, truth.ingress)
                if six := _serving(truth, service, truth.ingress, address6_of):
                    published[f"{name}/6"] = six
    yield "published ports", host["balancers"], published
    yield "conntrack to addresses that are nobody's", _strangers(truth, host), []


def _serving(
    truth: Truth, service: dict[str, Any], network: str,
    of: Callable[[dict[str, Any], str], str] = address_of,
) -> list[str]:  # fmt: skip
    own = (t for t in truth.tasks if t["ServiceID"] == service["ID"])
    return sorted(plain(a) for t in own if (a := of(t, network)))


def _strangers(truth: Truth, here: Mapping[str, Any]) -> list[str]:
    everybody = set().union(*truth.addresses.values())
    subnets = [
        ipaddress.ip_network(c["Subnet"]) for n in truth.networks.values() for c in n["IPAM"]["Config"] or ()
    ]
    return [
        a for a in here["connections"]
        if a not in everybody and any(ipaddress.ip_address(a) in subnet for subnet in subnets)
    ]  # fmt: skip


def _sandbox(
    truth: Truth, network: str, here: Mapping[str, Any], ports: int, vteps: Mapping[str, str],
    legs: Mapping[str, list[str]],
) -> Iterator[tuple[str, object, object]]:  # fmt: skip
    what = truth.networks[network]["Name"]
    others = [
        (plain(a), vteps[truth.nodes[t["NodeID"]]], plain(address6_of(t, network))) for t in truth.tasks
        if truth.nodes[t["NodeID"]] in vteps and (a := address_of(t, network))
    ]  # fmt: skip
    if network == truth.ingress:
        for node, found in legs.items():
            four, six = (plain(next((a for a in found if (":" in a) is want), "")) for want in (False, True))
            others += [(four, vteps[node], six)] if node in vteps and four else []
    yield f"{what}: ports", len(here["links"]) - 3, ports  # loopback, bridge, tunnel
    yield f"{what}: FDB", here["fdb"], sorted(f"{mac(a)} {vtep}" for a, vtep, _ in others)
    both = [f"{a} {mac(four)}" for four, _, six in others for a in (four, six) if a]
    yield f"{what}: neighbours", here["neighbours"], sorted(both)


def mac(address: str) -> str:
    """As agent/network/names.py has it."""
    return "02:42:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(address).packed)


def _task(
    truth: Truth, name: str, task: dict[str, Any], here: Mapping[str, Any], names: Collection[str]
) -> Iterator[tuple[str, object, object]]:
    networks = [each["Network"]["ID"] for each in task.get("NetworksAttachments") or ()]
    each = [of(task, network) for network in networks for of in (address_of, address6_of)]
    wanted = sorted(a for a in each if a)
    have = [a for link, found in here["links"].items() if link != "lo" for a in found]
    yield f"{name}: addresses", sorted(a for a in have if a in wanted), wanted
    yield f"{name}: interfaces", len(here["links"]), 2 + len(networks)
    backends: dict[str, list[str]] = {}
    answers: dict[str, list[str]] = {}
    for network in networks:
        if network == truth.ingress:
            continue
        for service in truth.services:
            four, six = (_serving(truth, service, network, of) for of in (address_of, address6_of))
            vips = _vips(service, network)
            called = service["Spec"]["Name"]
            backends.update((vip, six if ":" in vip else four) for vip in vips)
            serving = sorted(four + six)
            # A name is answered in the first of a task's networks that has it.
            if vips or serving:
                answers.setdefault(called, sorted(vips) or serving)
            if serving:
                answers.setdefault(f"tasks.{called}", serving)
    yield f"{name}: balancers", here["balancers"], backends
    for each in names:
        told, wanted = here["names"][each] or ["NXDOMAIN"], answers.get(each) or ["NXDOMAIN"]
        yield f"{name}: {each}", told, wanted
    yield f"{name}: conntrack to addresses that are nobody's", _strangers(truth, here), []


def _vips(service: dict[str, Any], network: str) -> list[str]:
    found = service["Endpoint"].get("VirtualIPs") or ()
    return [plain(v["Addr"]) for v in found if v["NetworkID"] == network and v.get("Addr")]


UNANSWERED = (OSError, LookupError, http.client.HTTPException)
