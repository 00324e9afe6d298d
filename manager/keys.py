"""The keys that the nodes' traffic among themselves is sealed with: a ring of three for each use, turned every 12 hours. Pure; keys_loop.py runs it.

Every node opens with all three and seals with the second newest: the newest has twelve hours to reach every node before anybody seals
with it, and what was sealed with the one before is understood for twelve hours more. So a node may miss a turn without
losing a packet. The time of the last turn is in the store: a new leader goes on where the last one was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from common import model
from manager import lifecycle
from manager.plan import Change, Plan
from manager.store.view import ReadView

SUBSYSTEMS: Final = ("networking:gossip", "networking:ipsec")
LENGTH: Final = 16
RING: Final = 3
INTERVAL: Final = 12 * 3600 * lifecycle.SECOND


def turned(cluster: model.Cluster, now: int, entropy: Callable[[int], bytes]) -> model.Cluster:
    """The cluster with a new key of each use, and without the oldest where there are too many."""
    lamport = max((cluster.key_clock, *(key.lamport_time for key in cluster.network_keys))) + 1
    keys = [*cluster.network_keys]
    for subsystem in SUBSYSTEMS:
        keys.append(model.EncryptionKey(subsystem, entropy(LENGTH), lamport))
    kept = [key for subsystem in SUBSYSTEMS for key in _newest(keys, subsystem)]
    return replace(cluster, network_keys=tuple(kept), key_clock=lamport, network_keys_turned_at=now)


def _newest(keys: Iterable[model.EncryptionKey], subsystem: str) -> list[model.EncryptionKey]:
    return sorted((k for k in keys if k.subsystem == subsystem), key=lambda k: k.lamport_time)[-RING:]


class Keys:
    """The loop's logic."""

    name = "keys"

    def __init__(self, entropy: Callable[[int], bytes], interval: int = INTERVAL) -> None:
        self._entropy = entropy
        self._interval = interval
        self._deadline: int | None = None

    def reset(self, view: ReadView) -> None:
        self._plan_for(view.cluster)

    def observe(self, change: Change, view: ReadView) -> None:
        if isinstance(change.subject, model.Cluster):
            self._plan_for(view.cluster)

    def pending(self, now: int) -> bool:
        return self._deadline is not None and lifecycle.due(self._deadline, now, self._interval)

    def deadline(self) -> int | None:
        return self._deadline

    def reconcile(self, view: ReadView, now: int) -> Plan:
        plan = Plan()
        self._plan_for(view.cluster)
        if self.pending(now):
            cluster = turned(view.cluster, now, self._entropy)
            plan.put(cluster)
            plan.say(f"the nodes get new keys for their traffic: turn {cluster.key_clock}")
            self._plan_for(cluster)
        return plan

    def _plan_for(self, cluster: model.Cluster) -> None:
        """Swarms of earlier versions don't know when: they have the keys that they were made with."""
        since = cluster.network_keys_turned_at or cluster.created_at
        self._deadline = since + self._interval if cluster.id else None
