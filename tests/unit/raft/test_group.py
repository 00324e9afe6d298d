"""Several members in one loop: elections, writes, reads, membership, snapshots, a disk that fails."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from common import errors, model
from manager.raft import runner
from manager.raft.core.messages import Entry, HardState, Message, MessageType
from manager.raft.replica import Limits
from manager.raft.seal import Damaged
from tests.unit.raft.group_net import Net


@asynccontextmanager
async def net(count: int, limits: Limits | None = None) -> AsyncIterator[Net]:
    made = Net(limits or Limits())
    async with asyncio.timeout(60):
        await made.grow(count)
        yield made
        await made.close()


async def test_one_member_leads_at_once_and_keeps_what_it_wrote() -> None:
    async with net(1) as n:
        one = n.nodes[1]
        indexes = await asyncio.gather(*(one.group.propose(b"%d" % i) for i in range(100)))
        assert indexes == sorted(indexes)
        assert one.journal.said() == [b"first", *(b"%d" % i for i in range(100))]
        assert await one.group.read_index() == one.group.applied
        disk = await n.crash(1)
        again = await n.begin(1, disk)
        await again.group.leading(True)
        assert again.journal.said()[-1] == b"99"


async def test_a_sole_member_reads_nothing_older_than_what_it_acknowledged() -> None:
    """How far the log was committed is not synced by itself: after a crash it is to be found out again first."""
    async with net(1) as n:
        one = n.nodes[1]
        await one.group.propose(b"acknowledged")
        acknowledged = one.group.applied
        disk = await n.crash(1)
        disk.state = HardState(disk.state.term, disk.state.vote, 1)
        again = await n.begin(1, disk)
        assert await again.group.read_index() >= acknowledged
        assert again.journal.said()[-1] == b"acknowledged"


async def test_no_two_lives_of_a_member_ask_the_same_before_a_read() -> None:
    """The leader would take the second one's questions for those of the first that wait with it."""
    async with net(1) as n:
        one = n.nodes[1].group
        await one.leading(True)
        before = one.runner._context
        disk = await n.crash(1)
        again = await n.begin(1, disk)
        await again.group.leading(True)
        assert abs(again.group.runner._context - before) > 1_000_000


async def test_three_members_agree_and_survive_their_leader() -> None:
    async with net(3) as n:
        leader = await n.leader()
        for i in range(10):
            await leader.group.propose(b"%d" % i)
        for node in n.nodes.values():
            await node.group.read_index()
            assert node.journal.said()[-1] == b"9"
        lost = leader.group.raft_id
        disk = await n.crash(lost)
        second = await n.leader()
        await second.group.propose(b"after")
        assert second.group.term > leader.group.term or second.group.term
        back = await n.begin(lost, disk)
        await back.group.read_index()
        assert back.journal.said()[-1] == b"after"
        assert [s.leader for s in second.group.members()].count(True) == 1


async def test_who_is_cut_off_answers_nothing() -> None:
    async with net(3) as n:
        leader = await n.leader()
        n.cut.add(leader.group.raft_id)
        second = await n.leader()
        await second.group.propose(b"elsewhere")
        with pytest.raises(errors.ShoalError, match="does not have a leader"):
            await leader.group.read_index()
        await asyncio.sleep(0)
        assert not leader.group.runner._reads and not leader.group.runner._asked  # nobody waits any more
        await leader.group.leading(False)
        with pytest.raises(errors.ShoalError):
            await leader.group.propose(b"never")
        n.cut.clear()
        await leader.group.read_index()
        assert leader.journal.said()[-1] == b"elsewhere"


async def test_a_late_member_gets_a_snapshot() -> None:
    async with net(1, Limits(snapshot_interval=50, keep_entries=10)) as n:
        one = n.nodes[1]
        for i in range(200):
            await one.group.propose(b"%d" % i)
        two = await n.begin(2)
        await one.group.add(two.member)
        while not all(s.voter for s in two.group.members()) or len(two.group.members()) < 2:
            await two.group.changed()
        await two.group.read_index()
        assert two.journal.said() == one.journal.said()
        assert len(one.disk.entries) < 100
        assert [n.group.runner.replica.members.epoch for n in (one, two)] == [1, 1]
        assert one.disk.kept and one.disk.kept.index > 1 and one.disk.kept.epoch == 1


async def test_leadership_is_handed_over_and_members_leave() -> None:
    async with net(3) as n:
        first = await n.leader()
        await first.group.transfer()
        second = await n.leader()
        assert second is not first
        await second.group.remove(first.member.node_id)
        while not first.group.removed and first.member.node_id in [
            s.member.node_id for s in second.group.members()
        ]:
            await second.group.changed()
        with pytest.raises(errors.ShoalError, match="removed"):
            await second.group.add(first.member)
        await second.group.propose(b"two are left")


async def test_nobody_is_removed_whose_loss_would_leave_no_quorum() -> None:
    async with net(3) as n:
        leader = await n.leader()
        away, other = (i for i in n.nodes if n.nodes[i] is not leader)
        n.cut.add(away)
        while all(s.reachable for s in leader.group.members()):
            await leader.group.changed()
        with pytest.raises(errors.FailedPrecondition, match="loss of quorum"):
            await leader.group.remove(f"node{other}")
        await leader.group.remove(f"node{away}")
        await leader.group.propose(b"two are left")


async def test_a_disk_that_fails_for_a_while_and_for_good() -> None:
    async with net(1) as n:
        one = n.nodes[1]
        one.disk.fails = OSError(errno.ENOSPC, "No space left on device")
        with pytest.raises(errors.ShoalError, match="No space left"):
            await one.group.propose(b"x")
        with pytest.raises(errors.ShoalError, match="No space left"):
            await one.group.propose(b"y")
        one.disk.fails = None
        while True:
            try:
                await one.group.propose(b"z")
                break
            except errors.ShoalError:
                await asyncio.sleep(0.01)
        one.disk.fails, one.disk.broken = OSError(errno.EIO, "Input/output error"), True
        with pytest.raises(errors.ShoalError, match="Input/output error"):
            await one.group.propose(b"w")
        assert one.task is not None
        await asyncio.wait([one.task])
        with pytest.raises(ExceptionGroup) as raised:
            await one.task
        assert raised.group_contains(OSError)


async def test_a_disk_that_stays_full_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runner, "_DISK_RETRY", 0.001)
    async with net(1) as n:
        one, tries, often, room = n.nodes[1], 0, asyncio.Event(), False
        save = one.disk.save

        def full(state: HardState | None, entries: Sequence[Entry]) -> None:
            nonlocal tries
            tries += 1
            if tries == 5:
                often.set()
            if not room:
                raise OSError(errno.ENOSPC, "No space left on device")
            save(state, entries)

        monkeypatch.setattr(one.disk, "save", full)
        with pytest.raises(errors.ShoalError, match="No space left"):
            await one.group.propose(b"x")
        await often.wait()
        room = True
        while True:
            try:
                await one.group.propose(b"y")
                break
            except errors.ShoalError:
                await asyncio.sleep(0.001)
    assert caplog.text.count("No space left on device") == 1
    assert caplog.text.count("can write its log again") == 1


async def test_a_log_that_contradicts_the_agreement_ends_the_member() -> None:
    async with net(2) as n:
        leader = await n.leader()
        other = next(node for node in n.nodes.values() if node is not leader)
        lost, term = other.group.runner.replica.last_index + 100, leader.group.term
        beyond = Message(MessageType.HEARTBEAT, other.group.raft_id, leader.group.raft_id, term, commit=lost)
        other.group.runner.step(beyond)
        assert other.task is not None
        await asyncio.wait([other.task])
        with pytest.raises(ExceptionGroup) as raised:
            await other.task
        assert raised.group_contains(Damaged, match="remove this manager from the swarm")


async def test_a_snapshot_that_cannot_be_saved_is_not_tried_again_with_every_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The log has room in its segment, a snapshot has none on the disk: writes go on, and at their pace."""
    monkeypatch.setattr(runner, "SNAPSHOT_RETRY", 3600.0)
    async with net(1, Limits(snapshot_interval=5)) as n:
        one, tries, room = n.nodes[1], 0, False
        tried, saved = asyncio.Event(), asyncio.Event()
        save = one.disk.save_snapshot

        def save_snapshot(snapshot: model.RaftSnapshot) -> None:
            nonlocal tries
            tries += 1
            tried.set()
            if not room:
                raise OSError(errno.ENOSPC, "No space left on device")
            save(snapshot)
            saved.set()

        monkeypatch.setattr(one.disk, "save_snapshot", save_snapshot)
        for number in range(6):
            await one.group.propose(b"%d" % number)
        await tried.wait()
        for number in range(200):
            await one.group.propose(b"%d" % number)
        assert tries == 1
        room, one.group.runner._no_snapshot_before = True, 0.0
        await one.group.propose(b"there is room again")
        await saved.wait()
        assert one.disk.kept is not None and one.disk.kept.index >= 200
