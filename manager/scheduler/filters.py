"""The filters that a node must pass for a task, in order, and how a failure is explained to users. Pure.

The texts are Docker's: `service ps` shows "no suitable node (…)". Used by place.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from common import model
from common.model import Availability, NodeState
from common.overlays import OVERLAY_ENCRYPTION, OVERLAY_IPV6
from manager.scheduler import constraints
from manager.scheduler.nodeset import NodeInfo, host_ports

_ARCHITECTURES: Final = {
    "x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm", "i386": "386", "i686": "386",
}  # fmt: skip

_TOO_OLD: Final = "its agent is too old"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a group of equal tasks asks of a node."""

    task: model.Task  # one of them
    constraints: tuple[constraints.Constraint, ...]
    abilities: frozenset[str] = frozenset()  # what its networks ask of an agent

    @property
    def placement(self) -> model.Placement:
        """Of the task's spec."""
        return self.task.spec.placement or model.Placement()


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition; `lasting` ones don't depend on what is placed in the same pass."""

    passes: Callable[[Wish, NodeInfo], bool]
    one: str
    many: str
    lasting: bool = True
    detail: Callable[[NodeInfo], str] | None = None

    def explain(self, infos: Sequence[NodeInfo]) -> str:
        """Why these nodes are out."""
        text = self.one if len(infos) == 1 else self.many.format(len(infos))
        details = sorted({self.detail(info) for info in infos}) if self.detail is not None else ()
        return f"{text}: {', '.join(details)}" if details else text


def wish_of(task: model.Task, abilities: frozenset[str] = frozenset()) -> Wish:
    """What a task asks; raises ConstraintError."""
    placement = task.spec.placement
    return Wish(task, constraints.parse(placement.constraints if placement is not None else ()), abilities)


def _ready(wish: Wish, info: NodeInfo) -> bool:
    node = info.node
    return node.status.state == NodeState.NODE_READY and node.spec.availability == Availability.ACTIVE


def _resources(wish: Wish, info: NodeInfo) -> bool:
    return info.fits(wish.task)


def _constraints(wish: Wish, info: NodeInfo) -> bool:
    return constraints.satisfied(wish.constraints, info.node)


def _platform(wish: Wish, info: NodeInfo) -> bool:
    asked, has = wish.placement.platforms, info.node.description.platform
    if not asked:
        return True
    return any(
        (not p.os or p.os.lower() == has.os.lower())
        and (not p.architecture or architecture(p.architecture) == architecture(has.architecture))
        for p in asked
    )


def architecture(name: str) -> str:
    """A machine's architecture as images name it."""
    return _ARCHITECTURES.get(name.lower(), name.lower())


def _encryption(wish: Wish, info: NodeInfo) -> bool:
    described = info.node.description
    asked = OVERLAY_ENCRYPTION in wish.abilities
    return not asked or (OVERLAY_ENCRYPTION in described.abilities and not described.encryption_lacks)


def _why_not_encrypted(info: NodeInfo) -> str:
    if OVERLAY_ENCRYPTION not in info.node.description.abilities:
        return _TOO_OLD
    return f"no kernel module {info.node.description.encryption_lacks}"


def _ipv6(wish: Wish, info: NodeInfo) -> bool:
    return OVERLAY_IPV6 not in wish.abilities or OVERLAY_IPV6 in info.node.description.abilities


def _too_old(_: NodeInfo) -> str:
    return _TOO_OLD


def _host_port(wish: Wish, info: NodeInfo) -> bool:
    return not host_ports(wish.task) & info.ports


def _max_replicas(wish: Wish, info: NodeInfo) -> bool:
    most = wish.placement.max_replicas
    return not most or info.by_service[wish.task.service_id] < most


PIPELINE: Final = (
    Filter(_ready, "1 node not available for new tasks", "{} nodes not available for new tasks"),
    Filter(
        _resources, "insufficient resources on 1 node", "insufficient resources on {} nodes", lasting=False
    ),
    Filter(
        _constraints,
        "scheduling constraints not satisfied on 1 node",
        "scheduling constraints not satisfied on {} nodes",
    ),
    Filter(_platform, "unsupported platform on 1 node", "unsupported platform on {} nodes"),
    Filter(
        _encryption,
        "encrypted networks not supported on 1 node",
        "encrypted networks not supported on {} nodes",
        detail=_why_not_encrypted,
    ),
    Filter(
        _ipv6,
        "IPv6 networks not supported on 1 node",
        "IPv6 networks not supported on {} nodes",
        detail=_too_old,
    ),
    Filter(
        _host_port,
        "host-mode port already in use on 1 node",
        "host-mode port already in use on {} nodes",
        lasting=False,
    ),
    Filter(
        _max_replicas,
        "max replicas per node limit exceed",
        "max replicas per node limit exceed",
        lasting=False,
    ),
)


def lasting_pass(wish: Wish, info: NodeInfo) -> bool:
    """Whether a node passes what doesn't change while tasks are placed."""
    return all(f.passes(wish, info) for f in PIPELINE if f.lasting)


def passing_pass(wish: Wish, info: NodeInfo) -> bool:
    """Whether a node has room left for one more."""
    return all(f.passes(wish, info) for f in PIPELINE if not f.lasting)


def explain(wish: Wish, infos: Iterable[NodeInfo]) -> str:
    """Why no node takes the task: the first filter that each fails, most frequent first."""
    failures: dict[int, list[NodeInfo]] = {}
    for info in infos:
        for position, candidate in enumerate(PIPELINE):
            if not candidate.passes(wish, info):
                failures.setdefault(position, []).append(info)
                break
    most_first = sorted(failures.items(), key=lambda item: -len(item[1]))
    reasons = [PIPELINE[position].explain(found) for position, found in most_first]
    return f"no suitable node ({'; '.join(reasons)})" if reasons else "no suitable node"
