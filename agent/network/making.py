"""How each kind of fact is made in the kernel and removed from it. Network thread only; kernel.py calls it, change by change.

It remembers nothing but the indexes of interfaces, for one pass. Raises what netlink, nftables and the system say.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from pyroute2.netlink.exceptions import NetlinkError

from agent.network import delta, names
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
)
from agent.network.nft import NftError
from agent.network.reader import PROC, write_sysctl
from agent.network.thread import Namespaces
from agent.network.watch import Watch
from agent.network.xfrm import Xfrm

_PERMANENT: Final = 0x80
_SELF: Final = 2  # "replace" of an FDB entry doesn't set it by itself, and the entry would land on the bridge
_LOOPBACK_INDEX: Final = 1
_LINK: Final = 253  # scope of a destination on the link itself
_NODAD: Final = 2  # an IPv6 address is used at once: nobody is asked whether he has it
_LOCAL_TABLE: Final = 255
_TO_US: Final = 2  # a route's type
_FORWARDING6: Final = "net/ipv6/conf/all/forwarding"
_GONE: Final = (errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL)  # as good as removed
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


def _everything(gateway: str) -> str:
    """The destination of a default route by this gateway."""
    return "::/0" if ":" in gateway else "default"


def _answers(fact: AnswerRule) -> dict[str, Any]:
    return {
        "family": socket.AF_INET6, "table": fact.table, "priority": names.ANSWER_PRIORITY,
        "ip_proto": fact.protocol, "sport_range": f"{fact.port}:{fact.port}",
    }  # fmt: skip


def _loopback(index: int) -> dict[str, Any]:
    return {
        "family": socket.AF_INET6, "dst": "::1/128", "oif": index, "table": _LOCAL_TABLE, "type": _TO_US,
    }  # fmt: skip


def _speak_ipv6(interface: str) -> None:
    """In the thread's namespace, also where the machine has switched IPv6 off for new interfaces. Addresses are used at once,
    the link-local one too, which neighbours are asked from."""
    write_sysctl(f"net/ipv6/conf/{interface}/disable_ipv6", "0")
    write_sysctl(f"net/ipv6/conf/{interface}/accept_dad", "0")


def _keep_advertisements() -> None:
    """A machine that forwards heeds no router advertisements, and would lose its own addresses and way out by and by, unless
    it is told to heed them all the same."""
    for path in (PROC / "net/ipv6/conf").glob("*/accept_ra"):
        if path.read_text().strip() == "1":
            path.write_text("2")


class Maker:
    """Namespaces that it makes and deletes are watched from then on, and no more."""

    def __init__(self, namespaces: Namespaces, watch: Watch) -> None:
        self._namespaces = namespaces
        self._watch = watch
        self._indexes: dict[tuple[str, str], int] = {}
        self._make: Mapping[type, Callable[[str, Any], None]] = {
            Namespace: self._make_namespace, Sysctl: self._make_sysctl, Bridge: self._make_bridge,
            Veth: self._make_veth, Port: self._make_port, Address: self._make_address,
            Neighbour: self._make_neighbour, Forward: self._make_forward, DefaultRoute: self._make_default,
            SealState: self._make_seal_state, SealPolicy: self._make_seal_policy, LinkRoute: self._make_link_route, ReturnRoute: self._make_return_route, ReturnRule: self._make_rule,
            AnswerRule: self._make_answer_rule, LoopbackRoute: self._make_loopback_route,
        }  # fmt: skip

    def begin(self) -> None:
        """Interfaces may be others than before."""
        self._indexes.clear()

    def make(self, namespace: str, fact: Fact, standing: Facts) -> Facts:
        """`standing` is there already, as far as is known. Answers with what of it has gone by this."""
        if isinstance(fact, Vxlan):
            return self._make_vxlan(namespace, fact, standing)
        if isinstance(fact, Table):
            self._make_table(namespace, fact, standing)
        else:
            self._make[type(fact)](namespace, fact)
        return frozenset()

    def _index(self, namespace: str, interface: str) -> int:
        key = (namespace, interface)
        if key not in self._indexes:
            found = next(iter(self._namespaces.route(namespace).link("get", ifname=interface)), None)
            if found is None:
                raise NetlinkError(errno.ENODEV)
            self._indexes[key] = int(found["index"])
        return self._indexes[key]

    def _exists(self, namespace: str, interface: str) -> bool:
        try:
            self._index(namespace, interface)
        except NetlinkError as error:
            if error.code == errno.ENODEV:
                return False
            raise
        return True

    def _make_namespace(self, namespace: str, _: Namespace) -> None:
        self._namespaces.create(namespace)
        self._watch.add(namespace)
        self._namespaces.route(namespace).link("set", index=_LOOPBACK_INDEX, state="up")

    def _make_sysctl(self, namespace: str, fact: Sysctl) -> None:
        with self._namespaces.inside(namespace):
            if fact.path == _FORWARDING6:
                _keep_advertisements()
            write_sysctl(fact.path, fact.value)

    def _make_bridge(self, namespace: str, fact: Bridge) -> None:
        route = self._namespaces.route(namespace)
        # A MAC of its own: a bridge otherwise takes its lowest port's, and changes it when that port goes.
        mac = {"address": names.mac(fact.address.partition("/")[0])} if fact.address else {}
        if not self._exists(namespace, fact.name):
            route.link("add", ifname=fact.name, kind="bridge", mtu=fact.mtu, **mac)
        index = self._index(namespace, fact.name)
        ours = namespace == names.HOST and fact.name != names.GATEWAY_BRIDGE
        alias = {"ifalias": names.OURS} if ours else {}
        route.link("set", index=index, mtu=fact.mtu, state="up", **alias)
        if fact.address6:
            with self._namespaces.inside(namespace):
                _speak_ipv6(fact.name)
        for address in filter(None, (fact.address, fact.address6)):
            route.addr("replace", index=index, **_interface_address(address))

    def _make_vxlan(self, namespace: str, fact: Vxlan, standing: Facts) -> Facts:
        """In the sandbox at once, while the tunnel's UDP socket stays in the namespace of this request's netlink."""
        route = self._namespaces.route(namespace)
        replaced = self._exists(namespace, fact.name)
        before = next((f for f in standing if isinstance(f, Vxlan)), None)
        if replaced and before is not None and replace(before, mtu=fact.mtu) == fact:
            route.link("set", index=self._index(namespace, fact.name), mtu=fact.mtu)
            return frozenset()
        if replaced:
            route.link("del", index=self._indexes.pop((namespace, fact.name)))
        target = self._namespaces.open(namespace)
        try:
            self._namespaces.route(names.HOST).link(
                "add", ifname=fact.name, kind="vxlan", mtu=fact.mtu, net_ns_fd=target,
                vxlan_id=fact.vni, vxlan_port=fact.port, vxlan_local=fact.local,
                vxlan_learning=0, vxlan_proxy=1,
            )  # fmt: skip
        finally:
            os.close(target)
        bridge = self._index(namespace, fact.bridge)
        route.link("set", index=self._index(namespace, fact.name), master=bridge, state="up")
        # A tunnel that is made anew has lost its entries.
        return (
            frozenset(f for f in standing if isinstance(f, Forward | Neighbour)) if replaced else frozenset()
        )

    def _make_veth(self, namespace: str, fact: Veth) -> None:
        """Both ends in their namespaces at once; one that stands but differs is set right in place."""
        route = self._namespaces.route(namespace)
        if not self._exists(namespace, fact.name):
            peer: dict[str, Any] = {"ifname": fact.peer, "mtu": fact.mtu}
            target = -1
            if fact.peer_namespace != names.HOST:
                target = self._namespaces.open(fact.peer_namespace)
            else:
                target = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                self.drop_link(
                    fact.peer_namespace, fact.peer
                )  # left over from a namespace that somebody still holds
                route.link(
                    "add", ifname=fact.name, kind="veth", address=fact.mac, mtu=fact.mtu,
                    peer={**peer, "net_ns_fd": target},
                )  # fmt: skip
            finally:
                os.close(target)
            self._make_port(fact.peer_namespace, Port(fact.peer, fact.bridge, fact.isolated, fact.mtu))
        if (
            fact.name == names.INGRESS_LEG
        ):  # its link-local address, which neighbours are asked from, is used at once
            write_sysctl(f"net/ipv6/conf/{fact.name}/accept_dad", "0")
        index = self._index(namespace, fact.name)
        route.link("set", index=index, address=fact.mac, mtu=fact.mtu, state="up")

    def _make_port(self, namespace: str, fact: Port) -> None:
        """A port whose leg isn't made yet comes with it: the task's namespace may have its turn later."""
        if not self._exists(namespace, fact.name):
            return
        route = self._namespaces.route(namespace)
        index = self._index(namespace, fact.name)
        master = self._index(namespace, fact.bridge)
        route.link("set", index=index, mtu=fact.mtu, master=master, state="up")
        if fact.isolated:
            route.brport("set", index=index, isolated=1)

    def _make_address(self, namespace: str, fact: Address) -> None:
        index = self._index(namespace, fact.interface)
        self._namespaces.route(namespace).addr("replace", index=index, **_interface_address(fact.address))

    def _make_neighbour(self, namespace: str, fact: Neighbour) -> None:
        index = self._index(namespace, names.VXLAN)
        self._namespaces.route(namespace).neigh(
            "replace", dst=fact.address, lladdr=fact.mac, ifindex=index, state=_PERMANENT
        )

    def _make_forward(self, namespace: str, fact: Forward) -> None:
        index = self._index(namespace, names.VXLAN)
        self._namespaces.route(namespace).fdb(
            "replace", ifindex=index, lladdr=fact.mac, dst=fact.vtep, flags=_SELF, state=_PERMANENT
        )

    def _make_default(self, namespace: str, fact: DefaultRoute) -> None:
        index = self._index(namespace, fact.interface)
        self._namespaces.route(namespace).route(
            "replace", dst=_everything(fact.gateway), gateway=fact.gateway, oif=index
        )

    def _make_link_route(self, namespace: str, fact: LinkRoute) -> None:
        index = self._index(namespace, fact.interface)
        self._namespaces.route(namespace).route("replace", dst=fact.destination, oif=index, scope=_LINK)

    def _make_return_route(self, namespace: str, fact: ReturnRoute) -> None:
        index = self._index(namespace, fact.interface)
        self._namespaces.route(namespace).route(
            "replace", dst=_everything(fact.gateway), gateway=fact.gateway, oif=index, table=fact.table
        )

    def _make_rule(self, namespace: str, fact: ReturnRule) -> None:
        self._namespaces.route(namespace).rule(
            "add", family=_FAMILIES[fact.version], table=fact.table, fwmark=fact.mark,
            priority=names.RULE_PRIORITY,
        )  # fmt: skip

    def _make_answer_rule(self, namespace: str, fact: AnswerRule) -> None:
        self._namespaces.route(namespace).rule("add", **_answers(fact))

    def _make_loopback_route(self, namespace: str, fact: LoopbackRoute) -> None:
        metric = names.loopback_metric(fact.interface)
        index = self._index(namespace, fact.interface)
        self._namespaces.route(namespace).route("replace", priority=metric, **_loopback(index))

    def _make_seal_state(self, _: str, fact: SealState) -> None:
        with Xfrm() as xfrm:
            xfrm.make_state(fact)

    def _make_seal_policy(self, _: str, fact: SealPolicy) -> None:
        with Xfrm() as xfrm:
            xfrm.make_policy(fact)

    def _make_table(self, namespace: str, fact: Table, standing: Facts) -> None:
        """By the least that has to change, where it is known what stands there."""
        head = fact.text.partition("\n")[0]
        before = next((f for f in standing if isinstance(f, Table) and f.text.startswith(f"{head}\n")), None)
        nft = self._namespaces.held() if fact.name == names.HELD_TABLE else self._namespaces.table(namespace)
        if before is not None:
            try:
                nft.run(delta.transaction(before.text, fact.text))
            except NftError:  # somebody has changed it since
                nft.run(fact.text)
        else:
            nft.run(fact.text)

    # ---- removing; what is gone already is as good as removed

    def remove(self, namespace: str, fact: Fact) -> None:
        """A sandbox's namespace after free_ingress_leg()."""
        if isinstance(fact, Namespace):
            self._watch.discard(namespace)
            self._namespaces.delete(namespace)
            return
        if isinstance(fact, SealState | SealPolicy):
            with Xfrm() as xfrm:
                xfrm.remove(fact)
            return
        try:
            self._remove(namespace, fact)
        except NetlinkError as error:
            if error.code not in _GONE:
                raise

    def _remove(self, namespace: str, fact: Fact) -> None:
        route: Any = self._namespaces.route(namespace)
        match fact:
            case Bridge(name=names.GATEWAY_BRIDGE) if self._has_ports(namespace, names.GATEWAY_BRIDGE):
                pass  # another Docker's containers are in it
            case Bridge(name=name) | Vxlan(name=name) | Veth(name=name) | Port(name=name):
                self.drop_link(namespace, name)
            case Address(interface=interface, address=address):
                plain, _, prefix = address.partition("/")
                index = self._index(namespace, interface)
                route.addr("del", index=index, address=plain, prefixlen=int(prefix))
            case Neighbour(address=address, mac=mac):
                index = self._index(namespace, names.VXLAN)
                route.neigh("del", dst=address, lladdr=mac, ifindex=index)
            case Forward(mac=mac, vtep=vtep):
                index = self._index(namespace, names.VXLAN)
                route.fdb("del", ifindex=index, lladdr=mac, dst=vtep, flags=_SELF)
            case ReturnRoute(table=table, gateway=gateway):
                route.route("del", dst=_everything(gateway), gateway=gateway, table=table)
            case ReturnRule(mark=mark, table=table, version=version):
                family = _FAMILIES[version]
                route.rule("del", family=family, table=table, fwmark=mark, priority=names.RULE_PRIORITY)
            case AnswerRule():
                route.rule("del", **_answers(fact))
            case LoopbackRoute(interface=interface):
                route.route("del", **_loopback(self._index(namespace, interface)))
            case Table(name=names.HELD_TABLE as name, family=family):
                self._namespaces.let_go(f"{family} {name}")
            case Table(name=name, family=family):
                self._namespaces.table(namespace).run(f"delete table {family} {name}")

    def free_ingress_leg(self, namespace: str) -> bool:
        """The host's leg goes with the ingress sandbox that it is in, now and not when the kernel gets to it: the
        next look finds that it is missing in the sandbox of the network that has come in its place.
        Answers with whether there was one."""
        self._indexes.pop((namespace, names.INGRESS_PORT), None)
        if not names.is_sandbox(namespace) or not self._exists(namespace, names.INGRESS_PORT):
            return False
        self.drop_link(namespace, names.INGRESS_PORT)
        self._indexes.pop((names.HOST, names.INGRESS_LEG), None)
        return True

    def _has_ports(self, namespace: str, bridge: str) -> bool:
        index = self._index(namespace, bridge)
        links = self._namespaces.route(namespace).get_links()
        return any(link.get_attr("IFLA_MASTER") == index for link in links)

    def drop_link(self, namespace: str, interface: str) -> None:
        """An interface that may be there, with what hangs on it."""
        if self._exists(namespace, interface):
            index = self._indexes.pop((namespace, interface))
            self._namespaces.route(namespace).link("del", index=index)


def _interface_address(address: str) -> dict[str, Any]:
    """An address as netlink takes it, with the broadcast address that tools like to show."""
    own = ipaddress.ip_interface(address)
    found: dict[str, Any] = {"address": str(own.ip), "prefixlen": own.network.prefixlen}
    if own.version == 4 and own.network.prefixlen < 31:
        found["broadcast"] = str(own.network.broadcast_address)
    if own.version == 6:
        found["flags"] = _NODAD
    return found
