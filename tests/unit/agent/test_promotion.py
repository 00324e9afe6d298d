"""A manager comes and goes with the node's role, against a double of it: as the managers say, and no other way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from test_agent_membership import CLUSTER, NODE, ManagerDouble, NodeBench, manager, node, options, until

from agent import identity, promotion
from agent.engine.backend import InitOptions, JoinOptions, LocalState
from agent.membership import NO_SWARM, NOT_MANAGER
from agent.promotion import manager_address
from common import errors, joining, model

MANAGER, WORKER = model.NodeRole.MANAGER, model.NodeRole.WORKER
States = model.StatusReplyState


@asynccontextmanager
async def joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: model.NodeRole = WORKER
) -> AsyncIterator[tuple[ManagerDouble, NodeBench]]:
    """A node that has joined by a worker's token, and a manager process beside it that is none yet."""
    async with manager(tmp_path) as double, node(tmp_path) as n:

        async def issue(addr: str, token: str, csr: bytes, *more: object) -> model.IssueReply:
            return model.IssueReply(NODE, CLUSTER, role, double.certificate(csr), "10.0.0.9", (double.addr,))

        monkeypatch.setattr(joining, "join", issue)
        double.fence = model.Fence(CLUSTER, 1, 3, 10)
        n.membership._promotion._back_off = (0.01, 0.02)
        yield double, n


async def test_a_managers_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with joined(tmp_path, monkeypatch, MANAGER) as (double, n):
        await n.membership.join(JoinOptions((double.addr,), "token", listen_addr="0.0.0.0:4000"))
        shown = n.membership.membership()
        assert (shown.state, shown.manager) == (LocalState.ACTIVE, True)
        n.membership.control()
        kept = identity.load(n.folder)
        assert kept is not None
        assert kept.manager
        asked = double.joins[0]
        assert (asked.node_id, asked.cluster_id, asked.listen_addr) == (NODE, CLUSTER, "0.0.0.0:4000")
        assert (asked.advertise_addr, asked.managers) == ("10.0.0.9:4000", (double.addr,))
        assert (asked.key.decode(), asked.certificate.decode()) == (kept.key, kept.certificate)


async def test_a_manager_that_cannot_be_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined(tmp_path, monkeypatch, MANAGER) as (double, n):
        double.join_error = errors.DeadlineExceeded("this manager did not catch up")
        with pytest.raises(errors.DeadlineExceeded, match="desc = this manager did not catch up"):
            await n.membership.join(JoinOptions((double.addr,), "token"))
        assert n.membership.membership().state == LocalState.INACTIVE
        assert identity.load(n.folder) is None
        double.join_error = None
        await n.membership.join(JoinOptions((double.addr,), "token", advertise_addr="10.0.0.7:99"))
        assert double.joins[-1].advertise_addr == "10.0.0.7:99"


async def test_promotion_is_tried_until_it_works_and_demotion_erases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined(tmp_path, monkeypatch) as (double, n):
        await n.membership.join(JoinOptions((double.addr,), "token"))
        assert double.joins == []
        double.join_error = errors.Unavailable("no leader")
        double.say(MANAGER, 3, 11)
        await until(lambda: len(double.joins) >= 3)
        assert not n.membership.membership().manager
        double.join_error = None
        await until(lambda: n.membership.membership().manager)
        double.say(WORKER, 3, 12)
        await until(lambda: not n.membership.membership().manager)
        assert double.leaves == [True]
        kept = identity.load(n.folder)
        assert kept is not None
        assert not kept.manager
        with pytest.raises(errors.Unavailable) as refused:
            n.membership.control()
        assert refused.value.message == NOT_MANAGER


async def test_a_leader_of_the_past_takes_no_manager_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined(tmp_path, monkeypatch, MANAGER) as (double, n):
        double.role = MANAGER
        await n.membership.join(JoinOptions((double.addr,), "token"))
        double.say(WORKER, 2, 99)
        double.say(WORKER, 3, 9)
        double.say(MANAGER, 3, 20)
        await until(lambda: n.membership.contact.fence.index == 20)
        double.say(MANAGER, 3, 21)
        await until(lambda: n.membership.contact.fence.index == 21)
        assert n.membership.membership().manager
        assert double.leaves == []


@pytest.mark.parametrize("state", [States.INACTIVE, States.REMOVED])
async def test_a_manager_that_lost_its_state_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: States
) -> None:
    async with joined(tmp_path, monkeypatch, MANAGER) as (double, n):
        double.role = MANAGER
        await n.membership.join(JoinOptions((double.addr,), "token"))
        known = len(double.joins)
        double.state = States.LOCKED
        double.say(MANAGER, 3, 20)
        await until(lambda: n.membership.contact.fence.index == 20)
        double.state = state
        double.say(MANAGER, 3, 21)
        await until(lambda: len(double.joins) == known + 1)
        await until(lambda: double.state is States.ACTIVE)
        assert n.membership.membership().manager


async def test_a_manager_that_was_taken_out_and_has_not_heard_of_it_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Demoted and promoted while the agent heard nothing: its manager seems to be one, but can't read any more."""
    async with joined(tmp_path, monkeypatch, MANAGER) as (double, n):
        double.role = MANAGER
        await n.membership.join(JoinOptions((double.addr,), "token"))
        known = len(double.joins)
        double.read_error = errors.ShoalError("The swarm does not have a leader.")
        before = double.reads
        double.say(MANAGER, 3, 21)
        await until(lambda: double.reads >= before + 2)
        assert len(double.joins) == known
        double.state = States.REMOVED
        await until(lambda: len(double.joins) == known + 1)
        assert n.membership.membership().manager


async def test_a_manager_in_an_agreement_that_is_over_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined(tmp_path, monkeypatch, MANAGER) as (double, n):
        double.role = MANAGER
        await n.membership.join(JoinOptions((double.addr,), "token"))
        known, before = len(double.joins), double.reads
        double.fence = model.Fence(CLUSTER, 2, 1, 1)
        for session in double.sessions:
            session.put_nowait(model.ManagerMessage(update=double.welcome()))
        await until(lambda: double.reads >= before + 2)
        assert len(double.joins) == known
        double.state = States.REMOVED
        double.epoch = 2
        await until(lambda: len(double.joins) == known + 1)


async def test_a_word_from_before_the_join_takes_no_manager_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first welcome of a node that joins by a manager's token still says WORKER."""
    async with joined(tmp_path, monkeypatch, MANAGER) as (double, n):
        await n.membership.join(JoinOptions((double.addr,), "token"))
        looked = asyncio.Event()
        agree = n.membership._promotion._agree

        async def looking() -> None:
            await agree()
            looked.set()

        monkeypatch.setattr(n.membership._promotion, "_agree", looking)
        n.membership._promotion.heard()
        async with asyncio.timeout(30):
            await looked.wait()
        assert n.membership.membership().manager
        assert double.leaves == []
        double.say(WORKER, 3, 11)
        await until(lambda: double.leaves == [True])


async def test_what_is_left_of_a_manager_that_is_not_wanted_any_more_is_erased(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine lost power in the middle of it: there is a manager that never got through, and nobody knows it."""
    async with joined(tmp_path, monkeypatch) as (double, n):
        await n.membership.join(JoinOptions((double.addr,), "token"))
        double.join_error = errors.Unavailable("Socket closed")
        double.say(MANAGER, 3, 11)
        await until(lambda: len(double.joins) >= 1)
        kept = identity.load(n.folder)
        assert kept is not None
        assert (kept.manager, kept.joining) == (False, True)
        double.state = States.ACTIVE
        double.say(WORKER, 3, 12)
        await until(lambda: n.membership.identity is not None and not n.membership.identity.joining)
        assert double.leaves == [True]
        assert not n.membership.membership().manager


@pytest.mark.parametrize("state", [States.ACTIVE, States.INACTIVE])
async def test_leaving_erases_what_is_left_of_an_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: States
) -> None:
    async with joined(tmp_path, monkeypatch) as (double, n):
        await n.membership.join(JoinOptions((double.addr,), "token"))
        double.join_error = errors.Unavailable("Socket closed")
        double.say(MANAGER, 3, 11)
        await until(lambda: len(double.joins) >= 1)
        double.state = state
        await n.membership.leave()
        assert double.leaves == ([True] if state is States.ACTIVE else [])
        assert n.membership.membership().state == LocalState.INACTIVE


async def test_a_join_that_fails_halfway_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined(tmp_path, monkeypatch, MANAGER) as (double, n):
        double.join_error, double.state = errors.Unavailable("Socket closed"), States.ACTIVE
        with pytest.raises(errors.Unavailable, match="Socket closed"):
            await n.membership.join(JoinOptions((double.addr,), "token"))
        assert double.leaves == [True]
        assert identity.load(n.folder) is None


async def test_leaving_ends_an_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with joined(tmp_path, monkeypatch) as (double, n):
        await n.membership.join(JoinOptions((double.addr,), "token"))
        begun, ended = asyncio.Event(), asyncio.Event()

        async def forever(self: object, mine: object) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        monkeypatch.setattr(promotion.Promotion, "_join", forever)
        double.say(MANAGER, 3, 11)
        async with asyncio.timeout(30):
            await begun.wait()
            await n.membership.leave()
            await ended.wait()
        assert n.membership.membership().state == LocalState.INACTIVE


async def test_a_forced_new_cluster_keeps_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with joined(tmp_path, monkeypatch, MANAGER) as (double, n):
        forced = InitOptions("0.0.0.0:2377", "", force_new_cluster=True)
        with pytest.raises(errors.Unavailable) as refused:
            await n.membership.init(forced)
        assert refused.value.message == NO_SWARM
        double.role = MANAGER
        await n.membership.init(options(double.addr))
        await until(lambda: n.applier.applied_index == 5)
        before = identity.load(n.folder)
        state = n.applier.state
        assert await n.membership.init(forced) == NODE
        after = identity.load(n.folder)
        assert before is not None
        assert after is not None
        assert (after.key, after.certificate, after.manager) == (before.key, before.certificate, True)
        assert n.applier.state.tasks == state.tasks
        assert n.membership.membership().state == LocalState.ACTIVE
        await n.membership.leave(force=True)


async def test_a_worker_forces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with joined(tmp_path, monkeypatch) as (double, n):
        await n.membership.join(JoinOptions((double.addr,), "token"))
        with pytest.raises(errors.Unavailable) as refused:
            await n.membership.init(InitOptions("0.0.0.0:2377", "", force_new_cluster=True))
        assert refused.value.message == NOT_MANAGER


def test_what_a_manager_advertises() -> None:
    def papers(**more: str) -> identity.Identity:
        return identity.Identity("n", "c", "", "", "", "", remote_addr="10.0.0.9", **more)  # type: ignore[arg-type]

    assert manager_address(papers()) == "10.0.0.9:2377"
    assert manager_address(papers(advertise_addr="10.0.0.3")) == "10.0.0.3:2377"
    assert manager_address(papers(listen_addr="0.0.0.0:99")) == "10.0.0.9:99"
    assert manager_address(papers(listen_addr="0.0.0.0:99", manager_addr="1.2.3.4:5")) == "1.2.3.4:5"
    assert manager_address(papers(advertise_addr="fd00::1")) == "[fd00::1]:2377"
