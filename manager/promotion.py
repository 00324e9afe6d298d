"""How this machine, whose node is in a swarm already, becomes one of its managers. Local.Join calls `promote`.

A manager's certificate from the swarm's CA (which waits until the store has raised the node's role), a place in the
agreement as a learner, a folder with nothing but that, a member that runs from it, and then a voter. What fails on the
way leaves nothing: neither here nor in the agreement.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import grpc.aio

from common import errors, model, pki
from common.model.stubs import CAStub, RaftStub
from manager import bootstrap, elsewhere, identity
from manager.elsewhere import Papers
from manager.host import Host
from manager.identity import Membership
from manager.member import Member
from manager.raft.seal import create_key

log = logging.getLogger("promotion")

DEADLINE: Final = 60.0
"""Seconds until the new manager must have caught up and be a voter."""
TAKEN_OUT: Final = "this manager was taken out of the agreement again"
REACHED: Final = 10.0
"""Seconds until the leader must have sent it something."""
_SHOWN: Final = 5.0
_PAPERS: Final = 20.0
_ASK: Final = 20.0
_TAKE_BACK: Final = 3.0


async def promote(request: model.JoinRequest, host: Host, root: Path) -> None:
    """Makes the manager and returns when it is a voter; raises errors.ShoalError or OSError."""
    bootstrap.routable(request.advertise_addr, bootstrap.NO_ADDRESS)
    _free(request.listen_addr)
    key = pki.new_key()
    try:
        reply = await _certificate(request, key)
    except errors.FailedPrecondition:
        await _clear(host, root)
        raise
    await _clear(host, root)
    papers = Papers(pki.key_pem(key), reply.certificate)
    addresses = tuple(dict.fromkeys((*request.managers, *reply.managers)))
    others = tuple(a for a in addresses if a != request.advertise_addr) or addresses
    try:
        joined = await _into_the_agreement(request, papers, others)
        folder = identity.begin(root)
        create_key(folder.seal)
        folder.write(
            Membership(
                request.node_id, request.cluster_id, request.listen_addr, request.advertise_addr,
                joined.raft_id, joined.members,
            ),
            reply.certificate,
            pki.key_pem(key),
        )  # fmt: skip
        await host.begin(identity.finish(root))
        await voter(host)
    except BaseException as exc:
        log.warning("this node does not become a manager: %s", exc)
        await host.end()
        await asyncio.to_thread(identity.erase, root)
        await withdraw(papers, others, request.node_id, _TAKE_BACK, demote=False)
        raise
    log.info("node %s is a manager now", request.node_id)


async def _clear(host: Host, root: Path) -> None:
    """What this manager was before goes once a leader has answered: then nobody waits for its vote any more."""
    await host.end()
    await asyncio.to_thread(identity.erase, root)


def _free(listen_addr: str) -> None:
    """Finds out before anybody else is troubled whether the port can be had."""
    host, port = bootstrap.host_port(listen_addr, bootstrap.BAD_LISTEN)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((host, port))
        except OSError as exc:
            raise errors.ShoalError(
                f"manager could not listen on {listen_addr}: {exc.strerror}: is another process using this port?"
            ) from exc


async def _certificate(request: model.JoinRequest, key: pki.Key) -> model.IssueReply:
    """A manager's certificate for this node, on the strength of the agent's."""
    wanted = model.RenewRequest(pki.create_csr(key), model.NodeRole.MANAGER)

    async def renew(channel: grpc.aio.Channel, seconds: float) -> model.IssueReply:
        reply: model.IssueReply = await CAStub(channel).Renew(wanted, timeout=seconds)
        return reply

    shown = Papers(request.key, request.certificate)
    reply = await elsewhere.ask(shown, request.managers, renew, _PAPERS)
    got = pki.leaf_identity(reply.certificate)
    if got != (request.node_id, request.cluster_id, model.NodeRole.MANAGER):
        raise errors.Internal(
            f"the swarm's CA answered with a certificate of {got[0]}, {got[2].name.lower()}"
        )
    if Papers(b"", reply.certificate).root != shown.root:
        raise errors.Internal("the swarm's CA answered with a certificate of another root")
    return reply


async def _into_the_agreement(
    request: model.JoinRequest, papers: Papers, addresses: Sequence[str]
) -> model.RaftJoinReply:
    wanted = model.RaftJoinRequest(request.advertise_addr, request.listen_addr)

    async def join(channel: grpc.aio.Channel, seconds: float) -> model.RaftJoinReply:
        reply: model.RaftJoinReply = await RaftStub(channel).Join(wanted, timeout=seconds)
        return reply

    return await elsewhere.ask(papers, addresses, join, _ASK)


async def stands(host: Host, member: Member) -> bool:
    """Waits until the running member is a voter. One that nobody reaches and that never had a vote may have been taken
    out while it was off, and will not hear of that: False, it can begin anew. Raises errors.ShoalError otherwise."""
    try:
        await voter(host)
    except errors.DeadlineExceeded:
        if _votes(member) or member.consensus.leader_id:
            raise
        log.warning("nobody has reached this manager, which was about to join: it begins anew")
        return False
    return True


async def voter(host: Host) -> None:
    """Waits until the running member has caught up, is a voter, and is shown as a manager."""
    member = host.member
    if member is None:
        raise errors.FailedPrecondition(host.failure or TAKEN_OUT)
    consensus, where = member.consensus, member.membership.advertise_addr
    try:
        async with asyncio.timeout(REACHED):
            await _agreed(host, member, lambda: bool(consensus.leader_id))
    except TimeoutError as exc:
        raise errors.DeadlineExceeded(
            f"no other manager reached this one at {where} within {REACHED:.0f} s: is that its address, and the port open?"
        ) from exc
    try:
        async with asyncio.timeout(DEADLINE):
            await _agreed(host, member, lambda: _votes(member))
    except TimeoutError as exc:
        raise errors.DeadlineExceeded(
            f"this manager at {where} did not catch up with the others within {DEADLINE:.0f} s"
        ) from exc
    with suppress(TimeoutError):  # what counts has happened; this is what users see
        async with asyncio.timeout(_SHOWN):
            await _shown(member)


async def _agreed(host: Host, member: Member, condition: Callable[[], bool]) -> None:
    """Waits for something in the agreement that this member takes part in."""
    while not condition():
        if member.consensus.removed or host.member is not member:
            raise errors.FailedPrecondition(TAKEN_OUT)
        await member.consensus.changed()


def _votes(member: Member) -> bool:
    own = member.membership.node_id
    return any(m.voter and m.member.node_id == own for m in member.consensus.members())


async def _shown(member: Member) -> None:
    """Waits until the store has this manager's address."""
    own = member.membership
    with member.store.watch() as watch:
        while True:
            node = watch.view.nodes.get(own.node_id)
            status = node.manager_status if node is not None else None
            if status is not None and status.raft_id == own.raft_id:
                return
            await watch.next()


async def withdraw(
    papers: Papers, addresses: Sequence[str], node_id: str, seconds: float, *, demote: bool
) -> None:
    """Tells the others that this manager is one no more; where they can't be told, they find out by themselves."""
    wanted = model.RaftLeaveRequest(node_id, demote)

    async def leave(channel: grpc.aio.Channel, left: float) -> None:
        await RaftStub(channel).Leave(wanted, timeout=left)

    try:
        await elsewhere.ask(papers, addresses, leave, seconds)
    except errors.ShoalError as exc:
        log.warning("the other managers still count this one: %s", exc.message)
