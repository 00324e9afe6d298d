"""Consensus of a swarm with one manager: what its disk has synced is committed.

Proposals that arrive while the disk syncs go into the next group. Everything found in the log at the start counts as
committed. The term counts up at each start, so that agents can tell assignments of this process from older ones.
The daemon calls start, run (in its TaskGroup) and stop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from common import errors, model
from manager.raft.consensus import StateMachine
from manager.raft.core.messages import Entry, HardState
from manager.raft.disk import FileDisk
from manager.raft.log import SEGMENT_BYTES
from manager.raft.seal import Sealer

log = logging.getLogger("raft")
T = TypeVar("T")

SNAPSHOT_INTERVAL: Final = 10_000
_GROUP: Final = 256
LOST: Final = "raft: failed to process the request: node lost leader status"


@dataclass(frozen=True, slots=True)
class _Proposal:
    data: bytes
    done: asyncio.Future[int]


class SingleNode:
    """A Consensus of one member."""

    def __init__(
        self,
        directory: Path,
        sealer: Sealer,
        machine: StateMachine,
        snapshot_interval: int = SNAPSHOT_INTERVAL,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._machine = machine
        self._interval = snapshot_interval
        self._files = FileDisk(directory, sealer, segment_bytes)
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="log")
        self._queue: asyncio.Queue[_Proposal] = asyncio.Queue()
        self._term = 0
        self._applied = 0
        self._snapshot_index = 0
        self._snapshotting = False
        self._running = False

    @property
    def term(self) -> int:
        return self._term

    @property
    def leader(self) -> bool:
        return self._running

    @property
    def applied(self) -> int:
        return self._applied

    async def start(self) -> None:
        """Loads snapshot and log into the state machine and begins a new term; raises seal.Damaged or OSError."""
        loaded = await self._on_disk(self._files.load)
        saved = loaded.snapshot
        if saved is not None:
            self._machine.restore(saved.data)
            self._applied = self._snapshot_index = saved.index
        for entry in loaded.entries:
            self._machine.apply(entry.index, entry.term, entry.data)
            self._applied = entry.index
        terms = [loaded.state.term, saved.term if saved else 0, *(e.term for e in loaded.entries[-1:])]
        self._term = max(terms) + 1
        await self._on_disk(lambda: self._files.save(HardState(self._term), ()))
        self._running = True
        log.info("state loaded up to entry %d, term %d begins", self._applied, self._term)

    async def _on_disk(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, call)

    async def propose(self, data: bytes) -> int:
        if not self._running:
            raise errors.ShoalError(LOST)
        proposal = _Proposal(data, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(proposal)
        return await proposal.done

    async def read_index(self) -> int:
        if not self._running:
            raise errors.ShoalError(LOST)
        return self._applied

    async def run(self) -> None:
        """Writes, syncs and applies what is proposed; raises OSError when the log cannot be trusted any more."""
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    group = [await self._queue.get()]
                    while len(group) < _GROUP and not self._queue.empty():
                        group.append(self._queue.get_nowait())
                    await self._commit(group)
                    if self._applied - self._snapshot_index >= self._interval and not self._snapshotting:
                        self._snapshotting = True
                        tasks.create_task(self._save_snapshot())
        finally:
            self._running = False
            self._refuse()

    async def _commit(self, group: list[_Proposal]) -> None:
        first = self._applied + 1
        entries = [Entry(first + n, self._term, data=p.data) for n, p in enumerate(group)]
        try:
            await self._on_disk(lambda: self._files.save(None, entries))
        except OSError as exc:
            failure = errors.Internal(f"this manager cannot write its log, nothing was changed: {exc}")
            for proposal in group:
                if not proposal.done.done():
                    proposal.done.set_exception(failure)
            log.error("%s", failure)
            if self._files.broken:
                raise
            return
        except asyncio.CancelledError:
            for proposal in group:
                proposal.done.cancel()
            raise
        for entry, proposal in zip(entries, group, strict=True):
            self._machine.apply(entry.index, entry.term, entry.data)
            self._applied = entry.index
            if not proposal.done.done():
                proposal.done.set_result(entry.index)

    async def _save_snapshot(self) -> None:
        """Saves the state as it is now and drops the log before it; a failure leaves both as they were."""
        captured = self._machine.capture()
        index, term = self._applied, self._term
        try:
            data = await asyncio.to_thread(captured.encode)
            made = model.RaftSnapshot(index, term, data=data)
            await asyncio.to_thread(self._files.save_snapshot, made)
            removed = await self._on_disk(lambda: self._files.compact(index))
            log.info("snapshot of %d bytes at entry %d, %d log segments removed", len(data), index, removed)
        except OSError as exc:
            log.error("no snapshot could be saved at entry %d, the log is kept: %s", index, exc)
        finally:
            # Also after a failure: the next try comes an interval later, not at every entry.
            self._snapshot_index = index
            self._snapshotting = False

    def _refuse(self) -> None:
        while not self._queue.empty():
            proposal = self._queue.get_nowait()
            if not proposal.done.done():
                proposal.done.set_exception(errors.ShoalError(LOST))

    async def stop(self) -> None:
        self._running = False
        self._refuse()
        await self._on_disk(self._files.close)
        self._disk.shutdown()
