"""A manager leaves its swarm: what its user is warned of, in Docker's words, and how the others are told. For local.py."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from common import errors, model
from manager import promotion
from manager.member import Member
from manager.store.view import ReadView

log = logging.getLogger("local")

_HEAD: Final = "You are attempting to leave the swarm on a node that is participating as a manager. "
_LAST: Final = (
    "Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message."
)
_COUNT: Final = (
    "Removing this node leaves {} managers out of {}. Without a Raft quorum your swarm will be inaccessible. "
)
_UNKNOWN: Final = "Doing so may lose the consensus of your cluster. "
_TAIL: Final = (
    "The only way to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. "
    "Use `--force` to suppress this message."
)


def warning(view: ReadView | None) -> str:
    """Why a manager does not leave just like that; None for one that does not run."""
    if view is None:
        return _HEAD + _UNKNOWN + _TAIL
    known = [n.manager_status.reachability for n in view.nodes.all() if n.manager_status is not None]
    reachable = sum(r is model.Reachability.REACHABLE for r in known)
    away = len(known) - reachable
    if len(known) <= 1:
        return _HEAD + _LAST
    if reachable - 2 <= away:
        return _HEAD + _COUNT.format(reachable - 1, len(known)) + _TAIL
    return _HEAD + _TAIL


async def depart(member: Member, seconds: float) -> None:
    """Tells the others, for `seconds` at most, that this manager goes and its node is no manager any more."""
    own, consensus = member.membership.node_id, member.consensus
    others = [m.member.addr for m in consensus.members() if m.member.node_id != own]
    if not others or consensus.removed:
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            if consensus.leader:
                try:
                    await consensus.transfer()
                except errors.ShoalError as exc:
                    log.warning("nobody took over leadership: %s", exc.message)
            await promotion.withdraw(member.papers, others, own, seconds, demote=True)
