"""Facts of this node's own bridges, and of the containers on them."""

from __future__ import annotations

from dataclasses import replace

from agent.network import bridges, dual, names, plan
from agent.network.bridges import Binding, BridgeLeg, BridgeNetwork, Local, OverlayLeg, Wired
from agent.network.facts import (
    Address,
    Bridge,
    DefaultRoute,
    Facts,
    LoopbackRoute,
    Namespace,
    Port,
    Sysctl,
    Table,
    Veth,
    difference,
)
from agent.network.underlay import Underlay
from agent.state import NodeState
from common import model

ID, OTHER = "c" * 64, "d" * 64
NET = BridgeNetwork("n" * 64, "br-nnn", "172.20.0.0/16", "172.20.0.1", 1400)
DEFAULT = BridgeNetwork("bridge", "docker0", "172.17.0.0/16", "172.17.0.1", standing=False)
UNDERLAY = Underlay("")
NETWORKS = {NET.id: NET, DEFAULT.id: DEFAULT}


def laid(
    local: Local, *attached: str, state: NodeState | None = None, underlay: Underlay = UNDERLAY
) -> dict[str, Facts]:
    state = state or NodeState()
    tasks = {id: bridges.assignment(id, local.containers[id], state.tasks) for id in attached}
    known = replace(state, tasks={**state.tasks, **tasks})
    return bridges.laid_over(
        plan.desired(known, dict.fromkeys(attached, ""), underlay), local, attached, state, underlay
    )


def table(view: dict[str, Facts], family: str = "ip") -> str:
    tables = (f for f in view[names.HOST] if isinstance(f, Table))
    return next(f.text for f in tables if (f.family, f.name) == (family, names.LOCAL_TABLE))


def test_a_network_stands_without_containers_and_the_default_one_does_not() -> None:
    view = laid(Local(NETWORKS))
    assert set(view) == {names.HOST}
    assert {f.name for f in view[names.HOST] if isinstance(f, Bridge)} == {"br-nnn"}
    assert Bridge("br-nnn", 1400, "172.20.0.1/16") in view[names.HOST]
    assert laid(Local({DEFAULT.id: DEFAULT})) == {}
    assert not Local({DEFAULT.id: DEFAULT}).needs_kernel


def test_a_container_on_two_bridges() -> None:
    legs = (BridgeLeg("bridge", "eth0", "172.17.0.2"), BridgeLeg(NET.id, "eth3", "172.20.0.2"))
    view = laid(Local(NETWORKS, {ID: Wired(legs, way_out="bridge")}), ID)
    inside, host = view[names.task_namespace(ID)], view[names.HOST]
    assert Namespace() in inside
    assert {f.name: (f.mtu, f.bridge) for f in inside if isinstance(f, Veth)} == {
        "eth0": (1500, "docker0"), "eth3": (1400, "br-nnn"),
    }  # fmt: skip
    assert {Address("eth0", "172.17.0.2/16"), Address("eth3", "172.20.0.2/16")} <= inside
    (route,) = (f for f in inside if isinstance(f, DefaultRoute))
    assert (route.gateway, route.interface) == ("172.17.0.1", "eth0")
    ports = {f.name: f for f in host if isinstance(f, Port)}
    assert set(ports) == {names.bridge_port(ID, "bridge"), names.bridge_port(ID, NET.id)}
    assert all(names.is_bridge_port(name) and len(name) < 16 for name in ports)
    assert not any(f.isolated for f in ports.values())
    assert not any(isinstance(f, Bridge) and f.name == names.GATEWAY_BRIDGE for f in host)


def test_one_without_a_namespace_has_nothing() -> None:
    wired = Wired((BridgeLeg("bridge", "eth0", "172.17.0.2"),), bindings=(Binding("tcp", "0.0.0.0", 80, 80),))
    assert laid(Local({DEFAULT.id: DEFAULT}, {ID: wired})) == {}


def test_no_talking_means_isolated_ports() -> None:
    quiet = replace(NET, talking=False)
    view = laid(Local({NET.id: quiet}, {ID: Wired((BridgeLeg(NET.id, "eth0", "172.20.0.2"),))}), ID)
    assert all(f.isolated for f in view[names.HOST] if isinstance(f, Port))


DUAL = replace(NET, subnet6="fd00:1::/64", gateway6="fd00:1::1")
IPV6 = "net/ipv6/conf"


def test_both_families() -> None:
    """A leg of each kind: IPv6 is on in the namespace, and off on the leg that has no address; what is published leads to either."""
    legs = (
        BridgeLeg("bridge", "eth0", "172.17.0.2"), BridgeLeg(NET.id, "eth1", "172.20.0.2", "fd00:1::2"),
    )  # fmt: skip
    bindings = (
        Binding("tcp", "0.0.0.0", 8080, 80),
        Binding("tcp", "::", 8080, 80),
        Binding("udp", "::1", 53, 54),
    )
    wired = Wired(legs, (), "bridge", bindings, NET.id)
    local = Local({DUAL.id: DUAL, "bridge": DEFAULT}, {ID: wired})
    view = laid(local, ID)
    inside, host = view[names.task_namespace(ID)], view[names.HOST]
    assert {
        Address("eth1", "fd00:1::2/64"),
        Sysctl(f"{IPV6}/eth0/disable_ipv6", "1"),
        *dual.IN_TASKS,
    } <= inside
    assert not dual.OFF & inside
    assert {(r.gateway, r.interface, r.version) for r in inside if isinstance(r, DefaultRoute)} == {
        ("172.17.0.1", "eth0", 4), ("fd00:1::1", "eth1", 6),
    }  # fmt: skip
    assert Bridge("br-nnn", 1400, "172.20.0.1/16", "fd00:1::1/64") in host
    assert {
        LoopbackRoute("br-nnn"), Sysctl(f"{IPV6}/all/forwarding", "1"), Sysctl(f"{IPV6}/br-nnn/accept_ra", "0"),
    } <= host  # fmt: skip
    text, text6 = (table(view, family) for family in ("ip", "ip6"))
    mark = names.backend_mark("172.20.0.2")
    assert "dnat to 172.17.0.2:80" in text and "udp_53" not in text
    assert f"ct mark set {mark:#x} meta l4proto tcp dnat to [fd00:1::2]:80" in text6
    assert (
        f"ip6 daddr ::1 ct mark set {mark | names.DATAGRAMS:#x} meta l4proto udp dnat to [fd00:1::2]:54"
        in text6
    )
    assert 'ip6 saddr ::1 oifname { "br-nnn" } masquerade' in text6 and "docker0" not in text6
    assert 'ip6 saddr fd00:1::/64 oifname != "br-nnn" masquerade' in text6
    assert 'oifname "br-nnn" iifname != "br-nnn" ct state new ct status & dnat == 0 drop' in text6
    # A kernel without IPv6 has what there is besides.
    plain = laid(local, ID, underlay=Underlay("", ipv6=False))
    assert (
        plain[names.task_namespace(ID)] >= dual.OFF
        and Bridge("br-nnn", 1400, "172.20.0.1/16") in plain[names.HOST]
    )
    facts = [fact for found in plain.values() for fact in found]
    assert not any(isinstance(f, Address | LoopbackRoute) and "fd00" in repr(f) for f in facts)
    assert not any(isinstance(f, Table) and (f.family, f.name) == ("ip6", names.LOCAL_TABLE) for f in facts)


def test_overlays_keep_their_interfaces_and_docker_gwbridge_leads_out() -> None:
    overlay = model.Network(
        id="ov", spec=model.NetworkSpec(name="net"), vni=4097,
        ipam=model.IPAMOptions(configs=(model.IPAMConfig("10.0.1.0/24"),)),
    )  # fmt: skip
    place = model.Task(
        id="a1", networks=(model.NetworkAttachment(network_id="ov", addresses=("10.0.1.5/24",)),)
    )
    state = NodeState("n1", networks={"ov": overlay}, tasks={"a1": model.TaskAssignment(place)})
    wired = Wired(
        (BridgeLeg(names.GATEWAY_BRIDGE, "eth1", "172.18.0.9"),),
        (OverlayLeg("a1", "eth4"),),
        names.GATEWAY_BRIDGE,
    )
    view = laid(Local({}, {ID: wired}), ID, state=state)
    inside, host = view[names.task_namespace(ID)], view[names.HOST]
    assert {f.name for f in inside if isinstance(f, Veth)} == {"eth1", "eth4"}
    assert {Address("eth4", "10.0.1.5/24"), Address("eth1", "172.18.0.9/16")} <= inside
    assert DefaultRoute("172.18.0.1", "eth1") in inside
    assert Port(names.gateway_port(ID), names.GATEWAY_BRIDGE, isolated=True) in host
    sandbox = view[names.network_namespace("ov")]
    assert names.sandbox_port(ID) in {fact.name for fact in sandbox if isinstance(fact, Port)}
    assert Local({}, {ID: wired}).gateway_addresses() == {ID: "172.18.0.9"}
    # The managers have taken the place back: the container's other legs stay.
    assert bridges.assignment(ID, wired, {}).task.networks == ()


def test_rules() -> None:
    inner = replace(NET, id="i", bridge="br-in", subnet="172.21.0.0/16", gateway="172.21.0.1", internal=True)
    plain = replace(NET, masquerade=False)
    bindings = (
        Binding("tcp", "0.0.0.0", 8080, 80),
        Binding("tcp", "192.0.2.1", 8080, 81),
        Binding("udp", "0.0.0.0", 53, 53),
    )
    local = Local(
        {"i": inner, NET.id: plain, "bridge": DEFAULT},
        {
            ID: Wired((BridgeLeg("bridge", "eth0", "172.17.0.2"),), way_out="bridge", bindings=bindings),
            OTHER: Wired((BridgeLeg("i", "eth0", "172.21.0.2"),), bindings=()),
        },
    )
    text = table(laid(local, ID, OTHER))
    chain = text[text.index("chain tcp_8080") :]
    chain = chain[: chain.index("}")]
    assert chain.index("ip daddr 192.0.2.1") < chain.index("dnat to 172.17.0.2:80\n")
    assert "dnat to 172.17.0.2:81" in chain and "meta l4proto udp dnat to 172.17.0.2:53" in text
    assert 'ip saddr 172.17.0.0/16 oifname != "docker0" masquerade' in text
    assert 'ip saddr 172.20.0.0/16 oifname != "br-nnn" masquerade' not in text
    assert 'ip saddr 172.21.0.0/16 oifname != "br-in" masquerade' not in text
    assert 'iifname "br-in" oifname != "br-in" drop' in text
    assert 'oifname "docker0" iifname != "docker0" ct state new ct status & dnat == 0 drop' in text
    assert bridges.udp_bindings(local, {ID}) == {53}
    assert bridges.udp_bindings(local, ()) == frozenset()
    without = Local(local.networks, {**local.containers, ID: replace(local.containers[ID], bindings=())})
    assert table(laid(without, ID, OTHER)) != text


def test_a_mac_and_link_local_addresses_of_its_own() -> None:
    leg = BridgeLeg(NET.id, "eth0", "172.20.0.2", mac="92:d0:c6:0a:29:33", link_local=("169.254.3.4",))
    inside = laid(Local({NET.id: NET}, {ID: Wired((leg,))}), ID)[names.task_namespace(ID)]
    own, beside = Address("eth0", "172.20.0.2/16"), Address("eth0", "169.254.3.4/16")
    made = [change.fact for change in difference({}, {"": inside}) if change.fact in (own, beside)]
    assert made == [own, beside]
    assert {fact.mac for fact in inside if isinstance(fact, Veth)} == {"92:d0:c6:0a:29:33"}
