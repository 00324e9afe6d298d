"""What every manager serves, leader or not: each service answers here, or has the leader answer.

Puts the ways of raft/forward.py and dispatcher/atleader.py together with this manager's own services. Made by member.py
(its `run` is one of the member's tasks); everything here is in the store's loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc.aio

from common import errors, model
from common.pb import ca_pb2, control_pb2, raft_pb2
from common.rpc import Caller
from manager.dispatcher.atleader import SessionAtLeader, Sessions
from manager.elsewhere import Papers
from manager.raft.consensus import Replicated
from manager.raft.forward import AtLeader, Forwarder
from manager.raft.forwarded import Forwarded
from manager.store.store import Store

CONTROL: Final = control_pb2.DESCRIPTOR.services_by_name["Control"]
CA: Final = ca_pb2.DESCRIPTOR.services_by_name["CA"]
RAFT: Final = raft_pb2.DESCRIPTOR.services_by_name["Raft"]


@dataclass(frozen=True, slots=True)
class Own:
    """This manager's own services: what they do, they do here."""

    control: object
    ca: object
    membership: object  # Raft.Join and Raft.Leave
    sessions: Sessions


class Channels:
    """A channel to each manager that is asked for. One whose address, or our certificate, has changed gets another one;
    what uses the old one may go on with it."""

    def __init__(self, addresses: Callable[[str], Sequence[str]], papers: Callable[[], Papers]) -> None:
        self._addresses = addresses
        self._papers = papers
        self._known: dict[tuple[str, bytes], grpc.aio.Channel] = {}

    def to(self, node_id: str) -> grpc.aio.Channel:
        """To that manager, at whichever of its addresses answers; raises errors.Unavailable for one that has none."""
        addresses, papers = self._addresses(node_id), self._papers()
        if not addresses:
            raise errors.Unavailable(f"no address of manager {node_id} is known")
        key = (",".join(addresses), papers.chain)
        if key not in self._known:
            self._known[key] = papers.channel(target(addresses))
        return self._known[key]

    async def close(self) -> None:
        """Closes all of them."""
        known, self._known = self._known, {}
        for channel in known.values():
            await channel.close()


def target(addresses: Sequence[str]) -> str:
    """gRPC's name for one peer that is at one of several addresses (IP:port): it tries one after the other."""
    if len(addresses) == 1:
        return addresses[0]
    family = "ipv6" if any(a.startswith("[") for a in addresses) else "ipv4"
    same = [a for a in addresses if a.startswith("[") == (family == "ipv6")]
    return f"{family}:{','.join(same)}"


class Anywhere:
    """`control`, `ca`, `membership`, `sessions` are the same services for callers of this manager; `forwarded` is for
    other managers."""

    def __init__(
        self,
        own: Own,
        store: Store,
        consensus: Replicated,
        node_id: str,
        first: Callable[[model.ForwardedCaller], Caller],
        channels: Channels,
    ) -> None:
        self._forwarder = Forwarder(consensus, node_id, channels.to, store)
        self._channels = channels
        self.control: Final[Any] = AtLeader(CONTROL, own.control, self._forwarder)
        self.ca: Final[Any] = AtLeader(CA, own.ca, self._forwarder)
        self.membership: Final[Any] = AtLeader(RAFT, own.membership, self._forwarder)
        self.sessions: Final = SessionAtLeader(own.sessions, consensus, node_id, channels.to)
        answered = ((CONTROL, own.control), (CA, own.ca), (RAFT, own.membership))
        self.forwarded: Final = Forwarded(consensus, node_id, answered, first)

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            await self._forwarder.run()
        finally:
            await self._channels.close()
