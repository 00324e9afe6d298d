"""What is wrong between nodes, from what they have tried and heard in a `network check`. Pure; used by checks.py.

A cause is told once: where VXLAN does not get through, nothing is said of what else that breaks. Every sentence names what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from common import model
from manager import lifecycle
from manager.dispatcher.check_plan import Planned

MOST_OFF: Final = 2 * lifecycle.SECOND
_OF_SERVICES: Final = ("dns", "vip", "backend")
_OF_KERNELS: Final = ("network", "module")
MOST_TROUBLES: Final = 100
_LONGEST: Final = 300


@dataclass(slots=True)
class Answers:
    """What one node has said; None for what it hasn't."""

    listening: model.CheckReport | None = None
    sent: model.CheckReport | None = None
    told: model.CheckReport | None = None
    offset: int = 0  # ns that its clock is ahead
    uncertain: int = 0  # by so much that may be wrong


@dataclass(frozen=True, slots=True)
class _Node:
    """A node that has answered everything."""

    node: model.CheckNode
    listening: model.CheckReport
    sent: model.CheckReport
    told: model.CheckReport
    tried: Mapping[str, model.CheckTried]
    heard: Mapping[str, model.CheckHeard]

    @property
    def troubles(self) -> tuple[model.CheckTrouble, ...]:
        """As they may be shown to whoever has asked: a node's words are another's terminal."""
        found = (*self.listening.troubles, *self.sent.troubles, *self.told.troubles)[:MOST_TROUBLES]
        return tuple(replace(t, subject=_shown(t.subject), text=_shown(t.text)) for t in found)

    @property
    def on_network(self) -> bool:
        return bool(self.node.leg) and self.listening.sandbox


@dataclass(slots=True)
class _Found:
    """Faults, those of one kind and sentence together."""

    sources: dict[tuple[str, str, str], list[str]] = field(default_factory=dict)
    pairs: set[tuple[str, str]] = field(default_factory=set)

    def pair(self, kind: str, source: str, target: str, text: str) -> None:
        """`text` has a place for the sources."""
        self.sources.setdefault((kind, target, text), []).append(source)
        self.pairs.add((source, target))

    def own(self, kind: str, target: str, text: str) -> None:
        self.sources.setdefault((kind, target, text), [])


def judge(
    ask_id: str,
    made: Planned,
    answers: Mapping[str, Answers],
    now: tuple[model.CheckService, ...],
    leader: str,
) -> model.NetworkCheck:
    """`now` are the services at the end of the check: what changed meanwhile is not judged."""
    names = {node.id: node.hostname or node.id for node in made.plan.nodes}
    whole = {node.id: one for node in made.plan.nodes if (one := _whole(node, answers.get(node.id)))}
    found = _Found()
    for node in made.plan.nodes:
        if not node.listens:
            found.own("down", node.id, _down(node, made.down.get(node.id, ""), whole))
        elif node.id not in whole:
            found.own("silent", node.id, _SILENT.format(names[node.id]))
    for source in whole.values():
        for target in whole.values():
            if source is not target:
                _pair(found, source, target, names, made.sealed)
    for one in whole.values():
        _own(found, one, answers[one.node.id], names.get(leader, "the leader"))
    steady = {service.name for service in made.plan.services if service in now}
    for one in whole.values():
        _services(found, one, made, steady, names)
    faults = tuple(
        model.CheckFault(
            kind, tuple(sources), target, text.replace("{}", _listed([names[s] for s in sources]))
        )
        for (kind, target, text), sources in found.sources.items()
    )
    nodes = tuple(_checked(node, whole.get(node.id), answers.get(node.id)) for node in made.plan.nodes)
    return model.NetworkCheck(
        id=ask_id,
        mtu=max((one.listening.mtu for one in whole.values()), default=0),
        nodes=nodes,
        faults=faults,
    )


def _whole(node: model.CheckNode, said: Answers | None) -> _Node | None:
    if said is None or said.listening is None or said.sent is None or said.told is None:
        return None
    return _Node(
        node,
        said.listening,
        said.sent,
        said.told,
        {tried.node_id: tried for tried in said.sent.tried},
        {heard.node_id: heard for heard in said.told.heard},
    )


def _checked(node: model.CheckNode, whole: _Node | None, said: Answers | None) -> model.CheckedNode:
    state = "down" if not node.listens else "silent" if whole is None else "ready"
    nothing = model.CheckReport()
    listening, sent = (whole.listening, whole.sent) if whole else (nothing, nothing)
    return model.CheckedNode(
        id=node.id,
        hostname=node.hostname,
        addr=node.vtep,
        state=state,
        on_network=bool(node.leg) and (whole is None or listening.sandbox),
        clock_offset=said.offset if said and whole else 0,
        names=sent.names,
        vips=sent.vips,
    )


# ---- a node alone

_SILENT: Final = (
    "{} has a session, but did not answer in time: its agent is busy, or older than this one"
    " (journalctl -u shoal-agent there)"
)


def _down(node: model.CheckNode, why: str, whole: Mapping[str, _Node]) -> str:
    name = node.hostname or node.id
    tried = [one.tried[node.id] for one in whole.values() if node.id in one.tried]
    if any(not t.stream for t in tried):
        seen = "its gossip port answers: its agent runs, but has no session with a manager (2377/tcp)"
    elif any(not t.silent for t in tried):
        seen = f"the machine at {node.addr} answers, but no agent on it (systemctl status shoal-agent there)"
    elif tried:
        seen = f"nothing answers at {node.addr}: it is switched off, or cut off"
    else:
        seen = "nobody could try it"
    return f"{name} is Down ({why or 'no session'}); {seen}"


def _own(found: _Found, one: _Node, said: Answers, leader: str) -> None:
    node, name = one.node, one.node.hostname or one.node.id
    off = abs(said.offset) - said.uncertain
    if off > MOST_OFF:
        way = "ahead of" if said.offset > 0 else "behind"
        found.own(
            "clock",
            node.id,
            f"{name}'s clock is {abs(said.offset) / lifecycle.SECOND:.1f} s {way} {leader}'s: certificates and logs"
            " go by it. Set both by NTP (timedatectl set-ntp true)",
        )
    troubles = [t for t in one.troubles if t.kind in _OF_KERNELS]
    for trouble in troubles:
        found.own(trouble.kind, node.id, f"{name}: {trouble.text}")
    if node.leg and not one.listening.sandbox and not troubles:
        found.own(
            "network", node.id, f"{name} runs a task of the network, but the network is not in its kernel"
        )


# ---- a pair, one way


def _pair(found: _Found, source: _Node, target: _Node, names: Mapping[str, str], sealed: bool) -> None:
    a, b, there = source.node.id, target.node.id, names[target.node.id]
    tried = source.tried.get(b, model.CheckTried(b))
    heard = target.heard.get(a, model.CheckHeard(a))
    for kind, text in _vxlan(source, target, tried, heard, there, sealed):
        found.pair(kind, a, b, text)
    gossip = list(_gossip(target, tried, heard, there))
    unseen = b in (*source.told.unseen, *source.listening.unseen)
    for kind, text in gossip:
        more = f". That is why gossip holds {there} dead (node ls: unseen)" if unseen else ""
        found.pair(kind, a, b, text + more)
    back = _gossip(
        source, target.tried.get(a, model.CheckTried(a)), source.heard.get(b, model.CheckHeard(b)), ""
    )
    if unseen and not gossip and not any(back):
        found.pair(
            "gossip", a, b,
            f"{{}} -> {there}: gossip holds {there} dead though 7946 is open: this lasts only for some seconds after a fault;"
            " if it stays, look at journalctl -u shoal-agent on both",
        )  # fmt: skip


def _vxlan(
    source: _Node, target: _Node, tried: model.CheckTried, heard: model.CheckHeard, there: str, sealed: bool
) -> Iterator[tuple[str, str]]:
    if ":" in source.node.vtep + target.node.vtep:
        return  # only IPv4 is probed
    if sealed:  # its packets don't go by that port: whether it is open concerns other networks
        pass
    elif tried.vxlan:
        yield (
            "4789",
            f"{{}} -> {there}: this machine itself does not send to UDP 4789 ({_shown(tried.vxlan)})",
        )
    elif not heard.vxlan:
        yield (
            "4789",
            f"{{}} -> {there}: nothing arrives on UDP 4789 (VXLAN): a packet filter on {there} or on the way"
            f" drops it. Open 4789/udp on {there} for the other nodes",
        )
    if heard.vxlan or sealed:
        yield from _tunnel(source, target, tried, heard, there, sealed)


def _tunnel(
    source: _Node, target: _Node, tried: model.CheckTried, heard: model.CheckHeard, there: str, sealed: bool
) -> Iterator[tuple[str, str]]:
    need, both = source.listening.needs, source.on_network and target.on_network
    small = heard.vxlan and heard.largest < need
    if small:
        fate = "are cut up on the way, which is slow" if both and heard.whole else "are lost"
        mtu = max(68, source.listening.mtu - (need - heard.largest))
        yield (
            "mtu",
            f"{{}} -> {there}: packets of more than {heard.largest} bytes {fate}, and the network's have up to {need}."
            f" Raise the MTU of the way, or make the network with --opt com.docker.network.driver.mtu={mtu}",
        )
    if both and not heard.tunnel:
        why = f" ({_shown(tried.tunnel)})" if tried.tunnel else ""
        cause = "the network is encrypted, and what is sealed does not arrive" if sealed else _DUMB
        ports = f"open the protocol ESP (50) on {there}, and 4790/udp for what comes out of it; then see what"
        do = ports if sealed else "see what"
        yield (
            "tunnel",
            f"{{}} -> {there}: {cause}{why}: {do} journalctl -u shoal-agent says on both",
        )
    elif both and not heard.whole and not small:
        yield "mtu", f"{{}} -> {there}: the network's largest packets are lost in its tunnel"


_DUMB: Final = "UDP 4789 is open, but the network's own tunnel carries nothing"


def _gossip(
    target: _Node, tried: model.CheckTried, heard: model.CheckHeard, there: str
) -> Iterator[tuple[str, str]]:
    lost = not heard.gossip and not tried.gossip and ":" not in target.node.addr
    if tried.gossip:
        yield (
            "7946/udp",
            f"{{}} -> {there}: this machine itself does not send to UDP 7946 ({_shown(tried.gossip)})",
        )
    if tried.stream and lost:
        yield (
            "7946",
            f"{{}} -> {there}: gossip does not get through: nothing arrives on UDP 7946, and TCP 7946 gives {_shown(tried.stream)}."
            f" Open 7946/tcp and 7946/udp on {there} for the other nodes",
        )
    elif tried.stream:
        yield (
            "7946/tcp",
            f"{{}} -> {there}: no connection to TCP 7946 (gossip): {_shown(tried.stream)}. Open 7946/tcp on {there} for the other nodes",
        )
    elif lost:
        yield (
            "7946/udp",
            f"{{}} -> {there}: nothing arrives on UDP 7946 (gossip). Open 7946/udp on {there} for the other nodes",
        )


# ---- names and VIPs, as one node finds them


def _services(found: _Found, one: _Node, made: Planned, steady: set[str], names: Mapping[str, str]) -> None:
    here, name = one.node.id, names[one.node.id]
    for trouble in one.troubles:
        if trouble.kind not in _OF_SERVICES or (trouble.subject and trouble.subject not in steady):
            continue
        if trouble.kind != "backend":
            found.own(trouble.kind, here, f"{name}: {trouble.text}")
            continue
        where = made.lives_on.get(trouble.text, "")
        explained = {(here, where), (where, here)} & found.pairs or where in made.down
        silent = any(("silent", where) == key[:2] for key in found.sources)
        if not explained and not silent:
            on = f" on {names[where]}" if where in names else ""
            found.own(
                "vip", here,
                f"{name}: {trouble.text}, a task of {trouble.subject}{on}, does not answer a ping from here,"
                " though the nodes reach each other",
            )  # fmt: skip


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:_LONGEST])


def _listed(names: list[str]) -> str:
    return ", ".join(names)
