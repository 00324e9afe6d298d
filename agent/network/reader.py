"""Reads what stands in a namespace as facts (facts.py); only what is ours by its name. Runs in the network thread.

kernel.py calls it for each namespace it has no trustworthy picture of: at start, after a failure, when reconciling.
"""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.network import names
from agent.network.facts import (
    Address,
    AnswerRule,
    Bridge,
    DefaultRoute,
    Fact,
    Facts,
    Forward,
    LinkRoute,
    LoopbackRoute,
    Namespace,
    Neighbour,
    Port,
    ReturnRoute,
    ReturnRule,
    SealPolicy,
    SealState,
    Sysctl,
    Table,
    Veth,
    Vxlan,
    sysctl_interface,
)
from agent.network.nft import NftError
from agent.network.rules import marker
from agent.network.shape import shape
from agent.network.thread import Namespaces
from agent.network.xfrm import Xfrm

PROC: Final = Path("/proc/sys")
_UP: Final = 0x1
_PERMANENT: Final = 0x80
_SELF: Final = 0x2
_MAIN: Final = 254
_BY_THE_KERNEL: Final = 2  # a route that came with an address
_LOCAL: Final = 255
_LOOPBACK: Final = "::1"
_TABLES: Final = (
    names.TABLE, names.FLOWS_TABLE, names.LOCAL_TABLE, names.SEALS_TABLE, names.HELD_TABLE,
)  # fmt: skip
_LINK_LOCAL: Final = "fe80:"
_BOTH: Final = (socket.AF_INET, socket.AF_INET6)
_TASK_LEG: Final = re.compile(r"eth\d+")
# Without the module (bridge filter) or the protocol (IPv6) there is nothing to switch off.
_MAY_BE_MISSING: Final = ("net/bridge/", "net/ipv6/")


@dataclass(frozen=True, slots=True)
class _Link:
    index: int
    name: str
    kind: str
    up: bool
    mtu: int
    mac: str
    master: int
    isolated: bool
    vni: int
    local: str
    port: int
    ours: bool  # a bridge that says so


def _link(message: Any) -> _Link:
    info = message.get_attr("IFLA_LINKINFO")
    data: Any = info.get_attr("IFLA_INFO_DATA") if info is not None else None
    kind = (info.get_attr("IFLA_INFO_KIND") if info is not None else None) or ""
    slave: Any = info.get_attr("IFLA_INFO_SLAVE_DATA") if info is not None else None
    tunnel = data if kind == "vxlan" and data is not None else None
    return _Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        kind=kind,
        up=bool(message["flags"] & _UP),
        mtu=message.get_attr("IFLA_MTU") or 0,
        mac=message.get_attr("IFLA_ADDRESS") or "",
        master=message.get_attr("IFLA_MASTER") or 0,
        isolated=hasattr(slave, "get_attr") and bool(slave.get_attr("IFLA_BRPORT_ISOLATED")),
        vni=(tunnel.get_attr("IFLA_VXLAN_ID") or 0) if tunnel is not None else 0,
        local=(tunnel.get_attr("IFLA_VXLAN_LOCAL") or "") if tunnel is not None else "",
        port=(tunnel.get_attr("IFLA_VXLAN_PORT") or 0) if tunnel is not None else 0,
        ours=message.get_attr("IFLA_IFALIAS") == names.OURS,
    )


class Reader:
    """Reads one namespace at a time."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces

    def read(self, name: str, wanted: Facts, closely: bool = False) -> Facts:
        """What stands in a namespace. Of sysctls and the table only what is wanted is looked at; `closely`: into tables too."""
        if name != names.HOST and name not in self._namespaces.existing():
            return frozenset()
        links = {link.index: link for link in map(_link, self._namespaces.route(name).get_links())}
        # Where IPv6 is off there is nothing of it to read; the machine's own may be left over.
        six = name == names.HOST or any(
            isinstance(f, Address | Neighbour) and ":" in f.address for f in wanted
        )
        families = _BOTH if six and self.has_ipv6 else _BOTH[:1]
        addresses = self._addresses(name, links, families)
        whole = not wanted or any(link.name == "lo" and link.up for link in links.values())
        facts: set[Fact] = {Namespace()} if whole and name != names.HOST else set()
        for link in links.values():
            facts |= self._of_link(name, link, links, addresses.get(link.name, ()), wanted)
        if names.is_sandbox(name):
            facts |= self._peers(name, links, families)
        for family in families if names.task_of(name) is not None else ():
            facts |= self._routes(name, links, family)
        if name == names.HOST:
            facts |= self._seals(any(isinstance(f, SealState | SealPolicy) for f in wanted))
        if name == names.HOST and self.has_ipv6:
            facts |= self._loopback_routes(links)
        facts |= self._sysctls(name, wanted)
        return frozenset(facts | self._tables(name, wanted, closely))

    def addresses(self, name: str) -> frozenset[str]:
        """All IPv4 addresses in a namespace, without prefix length."""
        found = self._namespaces.route(name).get_addr(family=socket.AF_INET)
        return frozenset(message.get_attr("IFA_ADDRESS") for message in found)

    def interface_of(self, address: str) -> tuple[str, int] | None:
        """(name, MTU) of the host's interface with an address."""
        route = self._namespaces.route(names.HOST)
        for message in route.get_addr(family=socket.AF_INET):
            if address in (message.get_attr("IFA_LOCAL"), message.get_attr("IFA_ADDRESS")):
                link = _link(next(iter(route.link("get", index=message["index"]))))
                return link.name, link.mtu
        return None

    def is_foreign(self, interface: str) -> bool:
        """Whether the host has an interface of this name that isn't a bridge of ours."""
        links = map(_link, self._namespaces.route(names.HOST).get_links())
        return any(link.name == interface and not link.ours for link in links)

    def gateway_subnet(self) -> str | None:
        """The subnet of a docker_gwbridge that stands."""
        route = self._namespaces.route(names.HOST)
        links = {m["index"]: _link(m) for m in route.get_links()}
        found = self._addresses(names.HOST, links).get(names.GATEWAY_BRIDGE)
        return str(ipaddress.IPv4Interface(found[0]).network) if found else None

    @property
    def has_ipv6(self) -> bool:
        """Whether the machine's kernel has it."""
        return (PROC / "net/ipv6").exists()

    def host_routes(self, family: int = socket.AF_INET) -> tuple[str, ...]:
        """Destinations of the host's main routing table, without the default and without ours; and, of IPv6's, those that
        mean the same on every link."""
        route = self._namespaces.route(names.HOST)
        links = {m["index"]: _link(m).name for m in route.get_links()}
        found = set()
        if family == socket.AF_INET6 and not self.has_ipv6:
            return ()
        for message in route.get_routes(family=family, table=_MAIN):
            name = links.get(message.get_attr("RTA_OIF") or 0, "")
            destination = message.get_attr("RTA_DST")
            everywhere = destination and destination.startswith((_LINK_LOCAL, "ff"))
            if destination and not everywhere and name not in (names.GATEWAY_BRIDGE, names.INGRESS_LEG, "lo"):
                found.add(f"{destination}/{message['dst_len']}")
        return tuple(sorted(found))

    def _addresses(
        self, name: str, links: Mapping[int, _Link], families: Iterable[int] = _BOTH[:1]
    ) -> Mapping[str, tuple[str, ...]]:
        """By interface; what the kernel gives to each link by itself is left out."""
        found: dict[str, tuple[str, ...]] = {}
        route = self._namespaces.route(name)
        for message in (m for family in families for m in route.get_addr(family=family)):
            link = links.get(message["index"])
            if link is not None and not message.get_attr("IFA_ADDRESS").startswith(_LINK_LOCAL):
                address = f"{message.get_attr('IFA_ADDRESS')}/{message['prefixlen']}"
                found[link.name] = (*found.get(link.name, ()), address)
        return found

    def _of_link(
        self, name: str, link: _Link, links: Mapping[int, _Link], addresses: Iterable[str], wanted: Facts
    ) -> set[Fact]:
        """A link that isn't up doesn't count: making it again brings it up."""
        host, sandbox = name == names.HOST, names.is_sandbox(name)
        own_bridge = names.GATEWAY_BRIDGE if host else names.BRIDGE
        if not link.up:
            return set()
        own = link.name == own_bridge or (host and link.ours)
        if own and link.kind == "bridge" and (host or sandbox):
            return {_bridge(link, tuple(addresses), wanted)}
        if sandbox and link.name == names.VXLAN and link.kind == "vxlan":
            if link.master not in links:
                return set()
            bridge = links[link.master].name
            return {Vxlan(link.name, link.vni, link.local, link.mtu, bridge, link.port)}
        if link.kind != "veth":
            return set()
        port = names.is_gateway_port(link.name) or names.is_bridge_port(link.name)
        if sandbox or (host and port):
            master = links[link.master].name if link.master in links else ""
            return {Port(link.name, master, link.isolated, link.mtu)}
        if (host and link.name == names.INGRESS_LEG) or (not host and _TASK_LEG.fullmatch(link.name)):
            leg = Veth(link.name, link.mac, link.mtu, "", "", "")
            return {leg, *(Address(link.name, address) for address in addresses)}
        return set()

    def _seals(self, needed: bool) -> frozenset[SealState | SealPolicy]:
        try:
            with Xfrm() as xfrm:
                return xfrm.read()
        except OSError as error:
            if error.errno in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT) or not needed:
                return frozenset()  # a kernel without IPsec, or one that nobody here needs it of
            raise

    def _peers(self, name: str, links: Mapping[int, _Link], families: Iterable[int]) -> set[Fact]:
        route = self._namespaces.route(name)
        tunnels = {link.index for link in links.values() if link.name == names.VXLAN}
        facts: set[Fact] = set()
        for message in (m for family in families for m in route.get_neighbours(family=family)):
            if message["ifindex"] in tunnels and message["state"] & _PERMANENT:
                facts.add(Neighbour(message.get_attr("NDA_DST"), message.get_attr("NDA_LLADDR")))
        for message in route.fdb("dump"):
            vtep = message.get_attr("NDA_DST")
            if message["ifindex"] in tunnels and message["flags"] & _SELF and vtep:
                facts.add(Forward(message.get_attr("NDA_LLADDR"), vtep))
        return facts

    def _loopback_routes(self, links: Mapping[int, _Link]) -> set[Fact]:
        found = self._namespaces.route(names.HOST).get_routes(family=socket.AF_INET6, table=_LOCAL)
        ways = (m.get_attr("RTA_OIF") or 0 for m in found if m.get_attr("RTA_DST") == _LOOPBACK)
        here = (links[index] for index in ways if index in links)
        return {LoopbackRoute(link.name) for link in here if link.name == names.INGRESS_LEG or link.ours}

    def _routes(self, name: str, links: Mapping[int, _Link], family: int) -> set[Fact]:
        """Of one family."""
        route = self._namespaces.route(name)
        facts: set[Fact] = set()
        for message in route.get_routes(family=family):
            table, index = message.get_attr("RTA_TABLE") or 0, message.get_attr("RTA_OIF") or 0
            gateway = message.get_attr("RTA_GATEWAY") or ""
            if message["dst_len"] == 0 and table == _MAIN:
                version = 6 if family == socket.AF_INET6 else 4
                facts.add(DefaultRoute(gateway, links[index].name if index in links else "", version))
            elif message["dst_len"] == 0 and table > names.ROUTE_TABLE_BASE and index in links:
                facts.add(ReturnRoute(table, gateway, links[index].name))
            elif table == _MAIN and not gateway and index in links and message["proto"] != _BY_THE_KERNEL:
                destination = f"{message.get_attr('RTA_DST')}/{message['dst_len']}"
                facts.add(LinkRoute(destination, links[index].name))
        for message in route.get_rules(family=family):
            table, mark = message.get_attr("FRA_TABLE") or 0, message.get_attr("FRA_FWMARK") or 0
            priority = message.get_attr("FRA_PRIORITY")
            ours = priority == names.RULE_PRIORITY
            if priority == names.ANSWER_PRIORITY and (ports := message.get_attr("FRA_SPORT_RANGE")):
                port, protocol = int(str(ports).partition(":")[0]), message.get_attr("FRA_IP_PROTO") or 0
                facts.add(AnswerRule(port, table, protocol))
            if ours and table > names.ROUTE_TABLE_BASE and mark:
                facts.add(ReturnRule(mark, table, 6 if family == socket.AF_INET6 else 4))
        return facts

    def _sysctls(self, name: str, wanted: Facts) -> set[Fact]:
        facts: set[Fact] = set()
        with self._namespaces.inside(name):
            for fact in wanted:
                if isinstance(fact, Sysctl) and read_sysctl(fact.path) in (fact.value, None):
                    facts.add(fact)
        return facts

    def _tables(self, name: str, wanted: Facts, closely: bool) -> set[Fact]:
        tables = [fact for fact in wanted if isinstance(fact, Table)]
        context = self._namespaces.table(name)
        found: set[Fact] = set()
        if not tables or name == names.HOST:
            present = context.run("list tables").splitlines()
            wanted_too = {(table.family, table.name) for table in tables}
            found = {
                Table("", "", ours, family)
                for ours in _TABLES
                for family in ("ip", "ip6")
                if f"table {family} {ours}" in present and (family, ours) not in wanted_too
            }
        for table in tables:
            try:
                context.run(f"list chain {table.family} {table.name} {marker(table.digest)}")
            except NftError:
                continue  # no such chain: made from another text, or not there
            if closely and shape(context.run(f"list table {table.family} {table.name}")) != shape(table.text):
                continue
            found.add(table)
        return found


def _bridge(link: _Link, addresses: tuple[str, ...], wanted: Facts) -> Bridge:
    """A bridge with the wanted addresses, if it has those among others."""
    asked = next((f for f in wanted if isinstance(f, Bridge) and f.name == link.name), Bridge("", 0))
    shown = asked.address if asked.address in addresses else next((a for a in addresses if ":" not in a), "")
    return Bridge(link.name, link.mtu, shown, asked.address6 if asked.address6 in addresses else "")


def read_sysctl(path: str) -> str | None:
    """A sysctl of the thread's namespace; None where the kernel has nothing that would have to be switched off, and empty
    where its interface isn't there yet: the interface will bring it, with a value of the kernel's."""
    try:
        return " ".join((PROC / path).read_text().split())
    except FileNotFoundError:
        interface = sysctl_interface(path)
        if interface and not (PROC / "net/ipv4/conf" / interface).exists():
            return ""
        return None if path.startswith(_MAY_BE_MISSING) else ""


def write_sysctl(path: str, value: str) -> None:
    """Sets a sysctl of the thread's namespace; one that need not be there is left out where it isn't. A module that is loaded
    later brings it, with the kernel's own value: the next reconciliation finds that."""
    try:
        (PROC / path).write_text(value)
    except FileNotFoundError:
        if not path.startswith(_MAY_BE_MISSING):
            raise
