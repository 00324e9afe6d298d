"""What a member saves in which order, and that one which was contradicted is silent. A disk in a folder, no network."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from common import model
from manager.raft.core.messages import Entry, Message, MessageType
from manager.raft.disk import FileDisk
from manager.raft.replica import Replica, Start
from manager.raft.runner import Host, Runner, Transport
from manager.raft.seal import Damaged, Sealer
from manager.raft.wire import core_snapshot

OWN, LEADER, TERM, AT = 7, 8, 3, 10  # `AT`: where the snapshot stands


class PowerCut(Exception):
    """Nothing happens after this."""


class Nobody:
    """A Host and a Transport that keep what they are given."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.answers: list[tuple[int, Sequence[Any]]] = []
        self._more = asyncio.Event()

    def send(self, messages: Sequence[Message]) -> None:
        self.sent += messages
        self._more.set()

    async def acknowledged(self, index: int) -> None:
        """Until the leader is told that the log holds everything up to `index`."""
        while not any(m.type is MessageType.APP_RESP and m.index >= index for m in self.sent):
            self._more.clear()
            await self._more.wait()

    async def asked(self) -> bytes:
        """What the leader is asked before a read."""
        while not (found := [m for m in self.sent if m.type is MessageType.READ_INDEX]):
            self._more.clear()
            await self._more.wait()
        return found[-1].entries[0].data

    def readable(self, index: int, tokens: Sequence[Any]) -> None:
        self.answers.append((index, tokens))
        self._more.set()

    async def answered(self) -> None:
        """Until a read may go on."""
        while not self.answers:
            self._more.clear()
            await self._more.wait()

    async def run(self) -> None:
        """Has nothing to do."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class Folder:
    """A member that knows nothing yet; its power is cut before the disk is called for the `last`th time."""

    def __init__(self, path: Path, last: int = 1000) -> None:
        self.path, self.last, self.calls = path, last, 0
        self.disk = self.opened()
        self.disk.load()
        self.around = Nobody()
        replica = Replica(Start(OWN), random.Random(1).randrange)
        self.runner = Runner(
            replica, self.disk, self._on_disk, cast("Host", self.around), cast("Transport", self.around)
        )

    def opened(self) -> FileDisk:
        return FileDisk(self.path, Sealer(bytes(32)))

    async def _on_disk(self, call: Callable[[], Any]) -> Any:
        self.calls += 1
        if self.calls == self.last:
            raise PowerCut
        return call()

    def left(self) -> tuple[int, int, int]:
        """What the next process finds: where the snapshot stands, how many entries follow, how far it is committed."""
        self.disk.close()
        disk = self.opened()
        found = disk.load()
        disk.close()
        return found.snapshot.index if found.snapshot else 0, len(found.entries), found.state.commit


def snapshot_of_leader() -> Message:
    members = tuple(model.RaftMember(i, f"node{i}", f"192.0.2.{i}:2377") for i in (OWN, LEADER))
    made = model.RaftSnapshot(AT, TERM, model.RaftConfState((OWN, LEADER)), members, (), b"state", 1)
    return Message(MessageType.SNAP, OWN, LEADER, TERM, snapshot=core_snapshot(made.to_bytes()))


def entries_of_leader(last: int, commit: int) -> Message:
    entries = tuple(Entry(i, TERM, data=b"%d" % i) for i in range(AT + 1, last + 1))
    return Message(MessageType.APP, OWN, LEADER, TERM, TERM, AT, entries, commit)


@pytest.mark.parametrize(("last", "left"), [(1, (0, 0, 0)), (2, (AT, 0, AT))])
async def test_a_power_cut_between_a_snapshot_and_the_entries_behind_it(
    tmp_path: Path, last: int, left: tuple[int, int, int]
) -> None:
    """Both come in one batch: what the snapshot is saved with must not speak of entries that are not there yet."""
    folder = Folder(tmp_path, last)
    folder.runner.step(snapshot_of_leader())
    folder.runner.step(entries_of_leader(AT + 2, commit=AT + 2))
    with pytest.raises(ExceptionGroup) as raised:
        await folder.runner.run()
    assert raised.group_contains(PowerCut)
    assert folder.left() == left


async def test_a_snapshot_and_the_entries_behind_it_are_saved_with_what_is_committed(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.runner.step(snapshot_of_leader())
    folder.runner.step(entries_of_leader(AT + 2, commit=AT + 2))
    async with asyncio.timeout(30):
        running = asyncio.create_task(folder.runner.run())
        await folder.around.acknowledged(AT + 2)
    running.cancel()
    await asyncio.wait([running])
    assert folder.left() == (AT, 2, AT + 2)


async def test_an_answer_to_another_life_of_the_member_is_none(tmp_path: Path) -> None:
    """It may still be under way, and says what was committed then."""
    folder = Folder(tmp_path)
    folder.runner.step(snapshot_of_leader())
    folder.runner.step(entries_of_leader(AT + 2, commit=AT + 2))
    async with asyncio.timeout(30):
        running = asyncio.create_task(folder.runner.run())
        await folder.around.acknowledged(AT + 2)
        folder.runner.read("token")
        question = await folder.around.asked()
        number = int.from_bytes(question[8:], "big")
        for other, index in ((number + 1000, AT), (number, AT + 2)):
            entry = Entry(0, 0, data=question[:8] + other.to_bytes(8, "big"))
            folder.runner.step(
                Message(MessageType.READ_INDEX_RESP, OWN, LEADER, TERM, index=index, entries=(entry,))
            )
        await folder.around.answered()
    running.cancel()
    await asyncio.wait([running])
    assert folder.around.answers == [(AT + 2, ("token",))]


async def test_a_member_that_is_contradicted_is_silent_and_says_once_what_is_damaged(tmp_path: Path) -> None:
    """It has forgotten what it acknowledged: no vote and no acknowledgement of its may count any more."""
    folder = Folder(tmp_path)
    folder.runner.step(Message(MessageType.HEARTBEAT, OWN, LEADER, TERM, commit=AT))
    folder.runner.step(Message(MessageType.VOTE, OWN, LEADER, TERM + 1, TERM, AT))
    folder.runner.step(Message(MessageType.HEARTBEAT, OWN, LEADER, TERM, commit=AT + 1))
    with pytest.raises(ExceptionGroup) as raised:
        await folder.runner.run()
    said = (
        f"{re.escape(str(tmp_path / 'log'))} contradicts .*entry {AT} is committed, .*; remove this manager"
    )
    assert raised.group_contains(Damaged, match=said)
    assert folder.around.sent == []
    assert folder.left() == (0, 0, 0)
