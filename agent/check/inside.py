"""Asks what a container of the network would ask: the embedded DNS for names, VIPs and tasks for an answer. Used by probing.py.

Sockets are made inside a task's own namespace and used from the agent's loop, so that queries and pings go the whole way: through
the namespace's rules, the tunnel, and the task at the other end.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import struct
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from agent.network import names
from agent.network.insight import Insight
from common import model

DNS: Final = ("127.0.0.11", 53)
_DNS_TIMEOUT: Final = 0.7
_DNS_TRIES: Final = 2
PING_ROUNDS: Final = 3
_PING_WAIT: Final = 0.5
_MOST_TASKS: Final = 4
_MOST_BACKENDS: Final = 64
_ECHO, _ECHO_REPLY = 8, 0
_RECURSION, _TRUNCATED, _A, _IN = 0x0100, 0x02, 1, 1
_RECORD: Final = struct.Struct("!HHHIH")  # of an answer: pointer, type, class, TTL, length of the data
_TRIES_OF_A_VIP: Final = 4  # connections, for which the balancer takes one backend after the other


async def troubles(
    insight: Insight, network_id: str, services: Collection[model.CheckService]
) -> Iterator[model.CheckTrouble]:
    """Of this node's tasks in the network with its names and addresses."""
    tasks = await insight.tasks(network_id)
    if not tasks or not services:
        return iter(())
    found: list[model.CheckTrouble] = []
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(_names(insight, *task, services)) for task in tasks[:_MOST_TASKS]]
        pinged = group.create_task(_addresses(insight, *tasks[0], services))
    for each in asked:
        found += each.result()
    found += pinged.result()
    return iter(found)


# ---- names


async def _names(
    insight: Insight, task_id: str, task_name: str, services: Iterable[model.CheckService]
) -> list[model.CheckTrouble]:
    found = []
    made = await insight.inside(names.task_namespace(task_id), _dns_socket)
    try:
        for service in services:
            wanted = {service.vip} if service.vip else set(service.backends)
            answers = await _ask(made, service.name, wanted)
            if answers is None:
                found.append(
                    model.CheckTrouble("dns", "", f"the resolver at {DNS[0]} in {task_name} does not answer")
                )
                break
            if not wanted & answers:
                got = ", ".join(sorted(answers)) or "nothing"
                text = f"in {task_name} the name {service.name} leads to {got}, and should to {', '.join(sorted(wanted))}"
                found.append(model.CheckTrouble("dns", service.name, text))
    finally:
        made.close()
    return found


def _dns_socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        made.connect(DNS)
    except OSError:
        made.close()
        raise
    return made


async def _ask(made: socket.socket, name: str, wanted: set[str]) -> set[str] | None:
    """The addresses in the answer; None if there was none. One that is too long for a packet is taken for right."""
    loop = asyncio.get_running_loop()
    for _ in range(_DNS_TRIES):
        query = question(int.from_bytes(os.urandom(2), "big"), name)
        try:
            async with asyncio.timeout(_DNS_TIMEOUT):
                await loop.sock_sendall(made, query)
                while True:
                    answer = await loop.sock_recv(made, 4096)
                    if answer[:2] == query[:2] and len(answer) >= len(query):
                        cut = bool(answer[2] & _TRUNCATED)
                        return wanted if cut else addresses_in(answer, len(query))
        except (TimeoutError, OSError):
            continue
    return None


def question(identifier: int, name: str) -> bytes:
    """A query for a name's IPv4 addresses."""
    labels = (label.encode()[:63] for label in name.split(".") if label)
    packed = b"".join(bytes([len(label)]) + label for label in labels)
    return struct.pack("!6H", identifier, _RECURSION, 1, 0, 0, 0) + packed + struct.pack("!BHH", 0, _A, _IN)


def addresses_in(answer: bytes, at: int) -> set[str]:
    """The IPv4 addresses in our resolver's answer, whose records begin at `at`: each with a pointer to the name."""
    found = set()
    while at + _RECORD.size <= len(answer):
        _, kind, _, _, length = _RECORD.unpack_from(answer, at)
        at += _RECORD.size
        data = answer[at : at + length]
        if kind == _A and len(data) == 4:
            found.add(str(ipaddress.IPv4Address(data)))
        at += length
    return found


# ---- addresses


async def _addresses(
    insight: Insight, task_id: str, task_name: str, services: Collection[model.CheckService]
) -> list[model.CheckTrouble]:
    targets = [address for s in services for address in s.backends][:_MOST_BACKENDS]
    vips = [s.vip for s in services if s.vip and s.backends for _ in range(_TRIES_OF_A_VIP)]
    made = await insight.inside(names.task_namespace(task_id), _ping_socket)
    try:
        answered = await _ping(made, [*targets, *vips])
    finally:
        made.close()
    found = []
    for service in services:
        missing = [a for a in service.backends if a in targets and a not in answered]
        found += [model.CheckTrouble("backend", service.name, address) for address in missing]
        reachable = len(missing) < len(service.backends)
        if service.vip and reachable and service.vip not in answered:
            text = (
                f"the VIP {service.vip} of {service.name} does not answer in {task_name}, though its tasks do"
            )
            found.append(model.CheckTrouble("vip", service.name, text))
    return found


def _ping_socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP)


async def _ping(made: socket.socket, addresses: list[str]) -> set[str]:
    """Those that answered. Each entry has an identifier of its own: it is a connection of its own to a balancer."""
    first = int.from_bytes(os.urandom(2), "big")
    waiting = {(first + n) & 0xFFFF: address for n, address in enumerate(addresses)}
    answered: set[str] = set()
    loop = asyncio.get_running_loop()
    for sequence in range(PING_ROUNDS):
        for identifier, address in waiting.items():
            try:
                made.sendto(echo(identifier, sequence), (address, 0))
            except OSError:
                continue  # no way there, or no room: it counts as no answer
        try:
            async with asyncio.timeout(_PING_WAIT):
                while waiting:
                    identifier = _answer(await loop.sock_recv(made, 2048))
                    if (address := waiting.pop(identifier, "")) != "":
                        answered.add(address)
        except (TimeoutError, OSError):
            continue
        break
    return answered


def echo(identifier: int, sequence: int) -> bytes:
    """An ICMP echo request."""
    data = b"shoal network check "
    head = struct.pack("!BBHHH", _ECHO, 0, 0, identifier, sequence)
    return struct.pack("!BBHHH", _ECHO, 0, checksum(head + data), identifier, sequence) + data


def checksum(data: bytes) -> int:
    """As IP's protocols have it."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _answer(packet: bytes) -> int:
    """The identifier of an echo's reply; -1 for anything else."""
    at = 4 * (packet[0] & 0xF) if packet else 0
    if len(packet) < at + 8 or packet[at] != _ECHO_REPLY:
        return -1
    identifier: int = struct.unpack_from("!H", packet, at + 4)[0]
    return identifier


def is_v4(address: str) -> bool:
    """Whether an address can be probed: underlays of IPv6 aren't yet."""
    try:
        return ipaddress.ip_address(address).version == 4
    except ValueError:
        return False
