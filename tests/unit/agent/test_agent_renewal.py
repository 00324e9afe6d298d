"""A node's certificate against a CA that loses replies, forgets and lies: in time, past expiry, with clocks that are wrong."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest

from agent.identity import Identity
from agent.renewal import BETWEEN, Renewal
from common import errors, model, pki, rpc
from common.model.stubs import CAStub
from common.pb import ca_pb2
from common.rpc import Caller

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
DAY = dt.timedelta(days=1)
LIFE = 90 * DAY
MANAGER, WORKER = model.NodeRole.MANAGER, model.NodeRole.WORKER


class Authority:
    """The managers' end: a CA that knows one node's newest key."""

    def __init__(self) -> None:
        self.root = pki.create_root(NOW - 400 * DAY)
        self.key = b""
        self.shown: list[pki.Peer] = []
        self.asked: list[bytes] = []
        self.failure: errors.ShoalError | None = None
        self.lose = 0
        self.clock = NOW
        self.life = LIFE
        self.gives_renewals = True
        self.meanwhile: Callable[[], None] = lambda: None

    def papers(self, issued: dt.datetime = NOW, renewal: bool = True) -> Identity:
        key = pki.new_key()
        csr = pki.create_csr(key)
        self.key = pki.public_key_digest(csr)
        chain = pki.issue_node(self.root, csr, "n1", WORKER, "c", issued, self.life)
        beside = pki.issue_renewal(self.root, csr, "n1", "c", 7) if renewal else b""
        return Identity(
            "n1", "c", pki.key_pem(key).decode(), chain.decode(), self.root.cert.decode(), "machine",
            renewal=beside.decode(),
        )  # fmt: skip

    def authorize(self, context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
        (leaf,) = context.auth_context()["x509_pem_cert"]
        peer = pki.classify(bytes(leaf), self.root.cert, {})
        assert peer is not None
        self.shown.append(peer)
        role = model.Role.ROLE_RENEWER if peer.renewal else model.Role.ROLE_WORKER
        return Caller(frozenset({role}), peer.node_id, certificate=bytes(leaf))

    async def issue(self, request: model.IssueRequest, caller: Caller) -> model.IssueReply:
        raise errors.PermissionDenied("no")

    async def renew(self, request: model.RenewRequest, caller: Caller) -> model.IssueReply:
        self.asked.append(pki.public_key_digest(request.csr))
        self.meanwhile()
        if self.failure:
            raise self.failure
        if caller.roles == {model.Role.ROLE_RENEWER}:
            assert self.key in (self.asked[-1], pki.certificate_key_digest(caller.certificate))
        self.key = self.asked[-1]
        if self.lose:
            self.lose -= 1
            raise errors.Unavailable("the answer was lost")
        chain = pki.issue_node(self.root, request.csr, "n1", WORKER, "c", self.clock, self.life)
        beside = pki.issue_renewal(self.root, request.csr, "n1", "c", 8)
        return model.IssueReply("n1", "c", WORKER, chain, renewal=beside if self.gives_renewals else b"")


class Node:
    """What agent/membership.py is to a Renewal."""

    def __init__(self, papers: Identity, addr: str) -> None:
        self.identity: Identity | None = papers
        self.addr = addr
        self.full = False
        self.kept: list[Identity] = []
        self.changed = asyncio.Event()

    @property
    def papers(self) -> Identity:
        assert self.identity is not None
        return self.identity

    def addresses(self) -> list[str]:
        return [self.addr]

    def keep(self, papers: Identity) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.identity = papers
        self.kept.append(papers)
        self.changed.set()


@asynccontextmanager
async def listening(ca: Authority, issued: dt.datetime = NOW) -> AsyncIterator[str]:
    """A manager with `ca`; answers with its address."""
    key = pki.new_key()
    chain = pki.issue_node(ca.root, pki.create_csr(key), "m1", MANAGER, "c", issued, LIFE)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (rpc.handler(ca_pb2.DESCRIPTOR.services_by_name["CA"], ca, ca.authorize),)
    )
    credentials = grpc.ssl_server_credentials([(pki.key_pem(key), chain)], ca.root.cert, True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def talk(renewal: Renewal, node: Node) -> None:
    """What a session does: a channel, and a call on it."""
    async with renewal.dial(node.addr) as channel:
        try:
            await CAStub(channel).Issue(model.IssueRequest(), timeout=30)
        except grpc.aio.AioRpcError as exc:
            if exc.code() is not grpc.StatusCode.PERMISSION_DENIED:
                raise rpc.error_from(exc) from exc


def test_the_moment_is_between_half_and_four_fifths_of_a_life() -> None:
    ca = Authority()
    shares = [pki.renewal_moment(ca.papers().certificate.encode(), share) for share in BETWEEN]
    assert shares == [NOW + LIFE / 2, NOW + LIFE * 0.8]
    ca.life = dt.timedelta(
        hours=1
    )  # the shortest: not made shorter by the hour that certificates are backdated
    assert pki.renewal_moment(ca.papers().certificate.encode(), 0.5) == NOW + ca.life / 2


@pytest.mark.parametrize("seed", range(20))
async def test_a_certificate_is_renewed_in_time(seed: int) -> None:
    ca = Authority()
    clock = NOW
    papers = ca.papers()
    renewal = Renewal(Node(papers, ""), lambda: clock, random.Random(seed))
    moment = renewal._moment(papers)
    assert NOW + LIFE / 2 <= moment <= NOW + LIFE * 0.8
    assert renewal._moment(papers) == moment


async def test_the_loop_renews_when_the_moment_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.renewal.CHECK", 0.01)
    ca, clock = Authority(), [NOW + LIFE * 0.49]
    looks, looked = [0], asyncio.Event()

    def now() -> dt.datetime:
        looks[0] += 1
        if looks[0] == 5:
            looked.set()
        return clock[0]

    async with listening(ca) as addr:
        node = Node(ca.papers(), addr)
        before = node.papers
        task = asyncio.create_task(Renewal(node, now).run())
        try:
            async with asyncio.timeout(30):
                await looked.wait()
            assert not ca.asked
            ca.clock = clock[0] = NOW + LIFE * 0.81
            async with asyncio.timeout(30):
                while not node.papers.renewal or node.papers.certificate == before.certificate:
                    node.changed.clear()
                    await node.changed.wait()
        finally:
            task.cancel()
    assert [p.renewal for p in ca.shown] == [0]  # with its own certificate
    assert node.papers.key != before.key
    assert not node.papers.next_key
    assert pki.belongs(node.papers.key.encode(), node.papers.certificate.encode())
    assert pki.belongs(node.papers.key.encode(), node.papers.renewal.encode())


async def test_papers_without_a_renewal_certificate_get_one_at_once() -> None:
    ca = Authority()
    async with listening(ca) as addr:
        node = Node(ca.papers(renewal=False), addr)
        task = asyncio.create_task(Renewal(node).run())
        async with asyncio.timeout(30):
            while not node.papers.renewal:
                node.changed.clear()
                await node.changed.wait()
        task.cancel()


async def test_past_expiry_a_node_comes_back() -> None:
    ca = Authority()
    async with listening(ca) as addr:
        node = Node(ca.papers(NOW - 100 * DAY), addr)
        renewal = Renewal(node)
        await asyncio.gather(*(talk(renewal, node) for _ in range(5)))
        assert len(ca.asked) == 1
        assert [p.renewal for p in ca.shown] == [7, 0, 0, 0, 0, 0]
        assert pki.usable(node.papers.certificate.encode(), NOW)


async def test_a_reply_that_is_lost_locks_nobody_out() -> None:
    """The managers know the new key, the node has the old certificate, and has even been started anew."""
    ca = Authority()
    async with listening(ca) as addr:
        node = Node(ca.papers(NOW - 100 * DAY), addr)
        ca.lose = 2
        for _ in range(2):
            with pytest.raises(errors.Unavailable, match="lost"):
                await talk(Renewal(node), node)
        assert node.papers.next_key
        again = Node(node.kept[-1], addr)
        await talk(Renewal(again), again)
        assert len(set(ca.asked)) == 1  # one key all the time
        assert not again.papers.next_key
        assert pki.belongs(again.papers.key.encode(), again.papers.certificate.encode())


async def test_a_refusal_is_said() -> None:
    ca = Authority()
    async with listening(ca) as addr:
        node = Node(ca.papers(NOW - 100 * DAY), addr)
        ca.failure = errors.Unauthenticated("node n1 is not part of this swarm (any more)")
        with pytest.raises(errors.Unauthenticated, match="not part of this swarm"):
            await talk(Renewal(node), node)
        bare = Node(ca.papers(NOW - 100 * DAY, renewal=False), addr)
        with pytest.raises(errors.Unauthenticated, match="leave the swarm and join again"):
            await talk(Renewal(bare), bare)


async def test_clocks_that_are_wrong_are_named() -> None:
    ca = Authority()
    late = NOW - 100 * DAY
    async with listening(ca, late) as addr:
        node = Node(ca.papers(), addr)
        with pytest.raises(errors.ClockSkew, match="has expired by this machine's clock"):
            await talk(Renewal(node), node)
    async with listening(ca, NOW + 100 * DAY) as addr:
        node = Node(ca.papers(), addr)
        with pytest.raises(errors.ClockSkew, match="is not valid yet by this machine's clock"):
            await talk(Renewal(node), node)
    ca.clock = NOW + 200 * DAY
    async with listening(ca) as addr:  # the leader lives in the future
        node = Node(ca.papers(late), addr)
        with pytest.raises(errors.Unauthenticated, match="one of the clocks is wrong"):
            await talk(Renewal(node), node)
        assert node.papers.certificate == node.kept[0].certificate
        ca.clock = NOW
        await talk(Renewal(node), node)


async def test_a_full_disk_changes_nothing() -> None:
    ca = Authority()
    async with listening(ca) as addr:
        node = Node(ca.papers(NOW - 100 * DAY), addr)
        node.full = True
        with pytest.raises(errors.Internal, match="could not be written"):
            await talk(Renewal(node), node)
        assert not ca.asked  # nobody hears of a key that is not kept
        node.full = False
        await talk(Renewal(node), node)


async def test_papers_that_changed_meanwhile_stay_as_they_are() -> None:
    ca = Authority()
    async with listening(ca) as addr:
        node = Node(ca.papers(NOW - 100 * DAY), addr)

        def meanwhile() -> None:
            node.identity = replace(node.papers, node_id="other", next_key="")

        ca.meanwhile = meanwhile
        with pytest.raises(errors.Conflict, match="changed meanwhile"):
            await talk(Renewal(node), node)
        assert node.papers.node_id == "other"


class Pauses(random.Random):
    """Nobody waits here: what would have been waited for is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []
        self.enough = asyncio.Event()

    def uniform(self, a: float, b: float) -> float:
        if (a, b) == BETWEEN:
            return super().uniform(a, b)
        seen, enough = self.seen, self.enough

        class Share(float):
            def __rmul__(self, pause: float) -> float:
                seen.append(pause)
                if len(seen) == 4:
                    enough.set()
                return 0.0

        return Share(1.0)


@pytest.mark.parametrize("why", ["clock", "old managers"])
async def test_a_renewal_that_changes_nothing_is_not_tried_without_end(why: str) -> None:
    """By this machine's clock the new certificate is as old as the one before; or none comes to renew it with."""
    ca, pauses, too_many = Authority(), Pauses(), asyncio.Event()
    ahead = NOW + LIFE * 0.95 if why == "clock" else NOW

    def meanwhile() -> None:
        if len(ca.asked) > 8:
            too_many.set()

    ca.meanwhile, ca.gives_renewals = meanwhile, why == "clock"
    async with listening(ca) as addr:
        node = Node(ca.papers(renewal=why == "clock"), addr)
        task = asyncio.create_task(Renewal(node, lambda: ahead, pauses, (1.0, 4.0)).run())
        ends = [asyncio.ensure_future(e.wait()) for e in (pauses.enough, too_many)]
        async with asyncio.timeout(30):
            await asyncio.wait((task, *ends), return_when=asyncio.FIRST_COMPLETED)
        for each in (task, *ends):
            each.cancel()
    assert pauses.seen[:4] == [1.0, 2.0, 4.0, 4.0]
