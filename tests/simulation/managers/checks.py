"""What must hold in every run, whatever happens: looked at as it happens, and once more when all is calm again."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from common import model
from manager import lifecycle

if TYPE_CHECKING:
    from manager.store.store import Store
    from tests.simulation.managers.agents import PretendAgent
    from tests.simulation.managers.machine import Machine

LABEL = "value"
Order = tuple[int, int, int]


class Violation(AssertionError):
    """A promise was broken."""


class Checks:
    """The log as everybody applied it, and what agents obeyed. The first violation is kept, and ends the run."""

    def __init__(self) -> None:
        self.log: dict[tuple[int, int], tuple[int, bytes]] = {}  # (epoch, index): term, digest of the entry
        self.values: dict[int, list[tuple[str, str]]] = {}  # writes of registers, by index
        self.obeyed: dict[str, Order] = {}
        self.refused = 0
        self.wrong = ""
        self.last = 0

    def violated(self, text: str) -> None:
        """Notes it; the run ends soon."""
        if not self.wrong:
            self.wrong = text

    # ---- what managers apply

    def applied(self, name: str, store: Store, index: int, term: int, data: bytes) -> None:
        """An entry at one manager."""
        epoch = store.view().cluster.epoch
        entry = (term, hashlib.sha256(data).digest()[:8])
        known = self.log.setdefault((epoch, index), entry)
        if known != entry:
            self.violated(f"{name} applied another entry {index} (term {term}) than others (term {known[0]})")
        self.last = max(self.last, index)
        if index not in self.values:
            self.values[index] = _register_writes(store, index)

    # ---- what agents obey

    def obeys(self, agent: PretendAgent, fence: model.Fence) -> None:
        """An agent takes assignments in."""
        now = (fence.epoch, fence.term, fence.index)
        before = self.obeyed.get(agent.id, (0, 0, 0))
        if now < before:
            self.violated(f"{agent.id} obeyed {now} after {before}")
        self.obeyed[agent.id] = max(now, before)

    # ---- in the end

    def equal(self, machines: list[Machine]) -> str:
        """Why the managers' states differ; empty if they don't."""
        states = {m.ip: m.member.store for m in machines}
        indexes = {ip: s.view().index for ip, s in states.items()}
        if len(set(indexes.values())) > 1:
            return f"applied up to {indexes}"
        digests = {ip: hashlib.sha256(s.snapshot()).hexdigest()[:12] for ip, s in states.items()}
        if len(set(digests.values())) > 1:
            return f"states differ at one index: {digests}"
        return ""

    def slots(self, store: Store) -> str:
        """Whether a slot has several live tasks."""
        seen: dict[tuple[str, str], int] = {}
        for task in store.view().tasks.all():
            if lifecycle.wanted(task) and not lifecycle.ended(task):
                key = task.service_id, str(task.slot)
                seen[key] = seen.get(key, 0) + 1
        twice = [key for key, count in seen.items() if count > 1]
        return f"slots with several tasks: {twice}" if twice else ""


def _register_writes(store: Store, index: int) -> list[tuple[str, str]]:
    return [
        (s.spec.name, s.spec.labels[LABEL])
        for s in store.view().services.all()
        if s.version == index and LABEL in s.spec.labels and s.spec.name.startswith("register")
    ]
