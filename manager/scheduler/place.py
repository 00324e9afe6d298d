"""Spread: which node takes which task of a group of equal ones. Pure; used by reconcile.py.

The best node has had fewer than five recent failures of this spec, has the fewest tasks of the service, then the
fewest in all. Preferences (`spread=node.labels.zone`) come first: the branch with fewest of the service's tasks.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from common import model
from manager.scheduler import constraints, filters
from manager.scheduler.filters import Wish
from manager.scheduler.nodeset import HostPort, NodeInfo, with_numbers

FAULTY: Final = 5
_Rank = tuple[int, int, int, str]


def place(
    tasks: Sequence[model.Task],
    nodes: dict[str, NodeInfo],
    most: int,
    meshed: Collection[HostPort] = (),
    abilities: frozenset[str] = frozenset(),
) -> tuple[list[tuple[model.Task, str]], list[model.Task], str]:
    """Places up to `most` tasks of one service and spec: those placed with their node's id, those left, and why.

    The explanation is empty when tasks are left only because of `most`. `nodes` counts what is placed; `meshed` are the
    ports of the routing mesh, which no task may be given on its node; `abilities` is what their networks ask.
    Raises ConstraintError.
    """
    wish = filters.wish_of(tasks[0], abilities)
    fit = [info for info in nodes.values() if filters.lasting_pass(wish, info)]
    spreads = [p.spread.descriptor for p in wish.placement.preferences if p.spread is not None]
    choose = _Tree(wish, fit, spreads).take if spreads else _Heap(wish, fit).take
    placed: list[tuple[model.Task, str]] = []
    for task in tasks[:most]:
        info = choose()
        if info is None:
            return placed, list(tasks[len(placed) :]), filters.explain(wish, nodes.values())
        task = with_numbers(task, info, meshed)
        info.add(task)
        placed.append((task, info.node.id))
    return placed, list(tasks[most:]), ""


def rank(wish: Wish, info: NodeInfo) -> _Rank:
    """Sorts nodes, best first."""
    failures = info.failures[wish.task.service_id, wish.task.spec_version]
    return (
        failures if failures >= FAULTY else 0,
        info.by_service[wish.task.service_id],
        info.tasks,
        info.node.id,
    )


class _Heap:
    """The best node first; one that is full leaves."""

    def __init__(self, wish: Wish, infos: Sequence[NodeInfo]) -> None:
        self._wish = wish
        self._infos = {info.node.id: info for info in infos}
        self._heap = [rank(wish, info) for info in infos]
        heapq.heapify(self._heap)

    def take(self) -> NodeInfo | None:
        """The best node with room; the caller counts the task there."""
        while self._heap:
            ranked = heapq.heappop(self._heap)
            info = self._infos[ranked[-1]]
            if (now := rank(self._wish, info)) != ranked:
                heapq.heappush(self._heap, now)
            elif filters.passing_pass(self._wish, info):
                # Back with its old rank: outdated after the caller's count, which the next take notices.
                heapq.heappush(self._heap, ranked)
                return info
        return None


class _Tree:
    """Divides tasks evenly over the values of one label after the other."""

    def __init__(self, wish: Wish, infos: Sequence[NodeInfo], spreads: Sequence[str]) -> None:
        self._wish = wish
        self._infos = list(infos)
        self._paths = {info.node.id: tuple(label(info.node, s) for s in spreads) for info in infos}

    def take(self) -> NodeInfo | None:
        """The best node of the branch with fewest tasks."""
        open_ = [info for info in self._infos if filters.passing_pass(self._wish, info)]
        if not open_:
            return None
        counts: Counter[tuple[str, ...]] = Counter()
        for info in self._infos:
            path = self._paths[info.node.id]
            for depth in range(1, len(path) + 1):
                counts[path[:depth]] += info.by_service[self._wish.task.service_id]

        def order(info: NodeInfo) -> tuple[tuple[tuple[int, str], ...], _Rank]:
            path = self._paths[info.node.id]
            branches = tuple((counts[path[:depth]], path[depth - 1]) for depth in range(1, len(path) + 1))
            return branches, rank(self._wish, info)

        return min(open_, key=order)


def label(node: model.Node, descriptor: str) -> str:
    """The value that a preference spreads over; "" where a node has none."""
    found = constraints.lookup(node, descriptor)
    return found or ""


def assigned(task: model.Task, node_id: str, now: int, index: int) -> model.Task:
    """A task on its node."""
    status = replace(
        task.status,
        timestamp=now,
        state=model.TaskState.TASK_ASSIGNED,
        message="scheduler assigned task to node",
        err="",
    )
    return replace(task, node_id=node_id, status=status, assigned_index=index)
