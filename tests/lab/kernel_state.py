"""What stands in one machine's kernel of Shoal's network, as JSON; piped into a machine's python3 (standard library only).

kernel_state.py read NAME…      namespaces, links, addresses, tunnels' entries, balancers, conntrack; what DNS answers to the names
kernel_state.py use ADDRESS…    from each task's namespace: a connection and a datagram to each address that it can reach
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import json
import os
import re
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path("/run/shoal/netns")
NEWNET = 0x40000000
ADDRESS = re.compile(r"\b\d+\.\d+\.\d+\.\d+\b|(?<= : )[0-9a-f]+:[0-9a-f:]+")
CHAIN = re.compile(r"chain (\w+) \{\n(.*?)\t\}", re.S)
TARGET = re.compile(r"([0-9a-f:.]+) : goto (\w+)")
BACKEND = 0x8000_0000
RESOLVER = ("127.0.0.11", 53)
PATIENCE = 3.0  # seconds for an answer


def entered(path: Path) -> bool:
    """This process, and those it starts, live in that namespace from here on; not if it comes or goes just now."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        if not ctypes.CDLL(None, use_errno=True).setns(fd, NEWNET):
            return True
        number = ctypes.get_errno()
        if number != errno.EINVAL:  # a plain file: not bound yet, or no more
            raise OSError(number, f"setns {path}")
        return False
    finally:
        os.close(fd)


def shown(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def links() -> dict[str, list[str]]:
    """Addresses with prefix length, by interface."""
    found = json.loads(shown("ip", "-j", "addr", "show", "scope", "global") or "[]")
    names = {link["ifname"]: [] for link in json.loads(shown("ip", "-j", "link", "show")) if link}
    addresses = {
        link["ifname"]: [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if "local" in a]
        for link in found
        if link
    }
    return {name: addresses.get(name, []) for name in names}


def balancers() -> dict[str, list[str]]:
    """Who is behind each virtual address, and each published port ("tcp/80")."""
    found = {}
    for family in ("ip", "ip6"):
        text = shown("nft", "list", "table", family, "shoal")
        chains = dict(CHAIN.findall(text))
        for key, chain in TARGET.findall(text):
            port = f"{chain.partition('_')[0]}/{key}" + ("/6" if family == "ip6" else "")
            label = port if key.isdecimal() else key
            found[label] = sorted(set(ADDRESS.findall(chains.get(chain, ""))))
    return found


def connections() -> list[str]:
    """Addresses that conntrack still holds connections of a balancer to."""
    found = set()
    for line in Path("/proc/thread-self/net/nf_conntrack").read_text().splitlines():
        mark = re.search(r"\bmark=(\d+)", line)
        sources = re.findall(r"\bsrc=([0-9a-f.:]+)", line)
        if mark and int(mark[1]) & BACKEND and len(sources) == 2:
            found.add(str(ipaddress.ip_address(sources[1])))
    return sorted(found)


def entries() -> dict[str, Any]:
    """A tunnel's."""
    forwards = json.loads(shown("bridge", "-j", "fdb", "show", "dev", "vxlan0") or "[]")
    neighbours = [
        each
        for version in ("-4", "-6")
        for each in json.loads(
            shown("ip", version, "-j", "neigh", "show", "dev", "vxlan0", "nud", "permanent") or "[]"
        )
    ]
    return {
        "fdb": sorted(f"{e['mac']} {e['dst']}" for e in forwards if "dst" in e),
        "neighbours": sorted(f"{e['dst']} {e['lladdr']}" for e in neighbours),
    }


def answers(names: list[str]) -> dict[str, list[str]]:
    """By name: the resolver's A and AAAA records; ["NXDOMAIN"], or what went wrong. Where nobody answers no more is asked:
    a task whose namespace is just being removed has no resolver any more, and must not hold up the look at all others."""
    found: dict[str, list[str]] = {}
    for name in names:
        try:
            four = told(name, 1)
            found[name] = four if four == ["NXDOMAIN"] else sorted(four + told(name, 28))
        except OSError as error:
            return {each: found.get(each, [f"{type(error).__name__}"]) for each in names}
    return found


def told(name: str, wanted: int) -> list[str]:
    """One type's."""
    query = struct.pack("!6H", 0x1234, 0x0100, 1, 0, 0, 0)
    query += (
        b"".join(bytes([len(p)]) + p.encode() for p in name.split("."))
        + b"\0"
        + struct.pack("!2H", wanted, 1)
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.settimeout(PATIENCE)
        made.connect(RESOLVER)  # so that a refusal is heard of
        made.send(query)
        answer = made.recv(4096)
    code, count = answer[3] & 15, struct.unpack_from("!H", answer, 6)[0]
    if code:
        return ["NXDOMAIN" if code == 3 else f"code {code}"]
    offset, found = len(query), []
    for _ in range(count):
        kind, _, _, length = struct.unpack_from("!HHIH", answer, offset + 2)
        if kind == wanted:
            found.append(str(ipaddress.ip_address(answer[offset + 12 : offset + 12 + length])))
        offset += 12 + length
    return sorted(found)


def read(names: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"": {"links": links(), "balancers": balancers(), "connections": connections()}}
    for path in sorted(FOLDER.iterdir()) if FOLDER.exists() else ():
        if not entered(path):
            continue
        here: dict[str, Any] = {"links": links()}
        if path.name.startswith("n-"):
            here |= entries()
        else:
            here |= {"balancers": balancers(), "connections": connections()}
            here["names"] = answers(names)
        found[path.name] = here
    return found


def use(addresses: list[str]) -> dict[str, Any]:
    """Leaves connections behind for conntrack to hold; whether they are answered is no matter here."""
    for path in sorted(FOLDER.glob("t-*")):
        if not entered(path):
            continue
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family) as made:
                made.setblocking(False)
                made.connect_ex((address, 80))
            with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
                try:
                    datagrams.bind(("", 5353))
                    datagrams.sendto(b"hello", (address, 80))
                except OSError:
                    continue  # no way there, or somebody refuses at once
    return {}


if __name__ == "__main__":
    print(json.dumps({"read": read, "use": use}[sys.argv[1]](sys.argv[2:])))
