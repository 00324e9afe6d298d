"""Where this node stands in its swarm: its papers, and what the managers said last. Asks nobody.

agent/membership.py holds it and changes it; agent/promotion.py and agent/renewal.py go by it, and keep the papers that they get.
"""

from __future__ import annotations

from pathlib import Path

from agent import identity
from agent.database import Contact
from agent.engine import backend
from agent.engine.backend import LocalState
from agent.identity import Identity
from common import model


class Standing:
    """The papers lie in `folder`; `contact` is what was known of the managers before."""

    def __init__(self, folder: Path, contact: Contact) -> None:
        self._folder = folder
        self._identity = identity.load(folder)
        self.contact = contact

    @property
    def identity(self) -> Identity | None:
        """None while the node belongs to no swarm."""
        return self._identity

    def keep(self, papers: Identity) -> None:
        """These are the node's papers now."""
        identity.save(self._folder, papers)
        self._identity = papers

    def forget(self) -> None:
        """The node belongs to no swarm."""
        identity.forget(self._folder)
        self._identity, self.contact = None, Contact()

    @property
    def node_id(self) -> str:
        return self._identity.node_id if self._identity else ""

    @property
    def role(self) -> model.NodeRole | None:
        """What the managers want this node to be; None while they have not said so."""
        return self.contact.role if self.contact.fence.cluster_id else None

    @property
    def role_fence(self) -> model.Fence:
        """How new that is."""
        return self.contact.fence

    def addresses(self) -> list[str]:
        """Where managers are: this node's own first, then those last heard of, then those of the join."""
        own = [m.addr for m in self.contact.managers if m.node_id == self.node_id]
        others = [m.addr for m in self.contact.managers if m.node_id != self.node_id]
        first = self._identity.managers if self._identity else ()
        return list(dict.fromkeys([*own, *others, *first]))

    def shown(self, error: str, joining: bool) -> backend.Membership:
        """For `info`. `error` is why a manager refuses the node."""
        mine = self._identity
        if mine is None:
            return backend.Membership(LocalState.PENDING if joining else LocalState.INACTIVE)
        return backend.Membership(
            state=LocalState.ERROR if error else LocalState.ACTIVE,
            node_id=mine.node_id,
            node_addr=mine.advertise_addr or mine.remote_addr,
            cluster_id=mine.cluster_id,
            manager=mine.manager,
            managers=self.contact.managers or tuple(model.ManagerAddress("", addr) for addr in mine.managers),
            error=error,
        )
