"""The store: applied state, transactions that go through consensus, and watches without a gap.

One event loop owns a store. `update` is the only way to write: it runs a function on a transaction, proposes what the
function wrote as one log entry, and returns once that entry is applied. Updates that arrive while an entry is under
way are run one after the other, each seeing what the one before wrote, and go into the next entry together.
Consensus calls `apply` in log order, and `restore` with a snapshot.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from common import errors, model
from common.clock import Clock
from manager.store import codec
from manager.store.tables import INDEXES, View, memory, overlay
from manager.store.view import THIS_INDEX, ReadView, StoreObject

T = TypeVar("T")
S = TypeVar("S", bound=StoreObject)
Propose = Callable[[bytes], Awaitable[int]]

ENTRY_CHANGES: Final = 200
"""Updates are joined into one log entry, and `batch` fills one, up to so many changes."""
ENTRY_BYTES: Final = 8 << 20
ENTRY_DATA: Final = 4 << 20
"""Nothing more is joined to an entry that has so many bytes of configs and secrets."""
NO_LEADER: Final = (
    "The swarm does not have a leader. It's possible that too few managers are online. "
    "Make sure more than half of the managers are online."
)
WATCH_LIMIT: Final = 50_000
"""A watcher that is so many changes behind is told to look at everything again."""


class ChangeKind(enum.Enum):
    """What happened to an object."""

    CREATE = "create"
    UPDATE = "update"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Change:
    """One object's change; `old` is None for CREATE, `new` for REMOVE."""

    kind: ChangeKind
    old: StoreObject | None
    new: StoreObject | None

    @property
    def subject(self) -> StoreObject:
        """The object as it is now, or as it was when it went."""
        found = self.new if self.new is not None else self.old
        assert found is not None
        return found


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """Changes up to `index`, in order. With `resync` they are not known one by one: look at the whole view."""

    index: int
    changes: tuple[Change, ...]
    resync: bool = False


class Transaction:
    """Reads and writes of one update; `view` shows its own writes. Used only inside the function given to update."""

    __slots__ = ("_now", "_rows", "data", "view")

    def __init__(self, below: View, now_ns: int) -> None:
        self._now = now_ns
        self.data = 0  # bytes of configs and secrets written
        self._rows = overlay(below.rows)
        self.view: View = View(self._rows, below.index)

    def put(self, thing: S) -> S:
        """Writes an object: version and times are set here. Returns it as written."""
        old = self._rows[type(thing)].get(thing.id)
        if not thing.id:
            raise ValueError(f"a {type(thing).__name__} without an id cannot be stored")
        created = (old.created_at if old is not None else thing.created_at) or self._now
        written: Any = replace(thing, version=THIS_INDEX, created_at=created, updated_at=self._now)
        self._rows[type(thing)].changed[thing.id] = written
        if isinstance(thing, model.Config | model.Secret):
            self.data += len(thing.spec.data)
        return written  # type: ignore[no-any-return]

    def remove(self, thing: StoreObject) -> None:
        """Removes an object; one that is gone already is no error."""
        if self._rows[type(thing)].get(thing.id) is not None:
            self._rows[type(thing)].changed[thing.id] = None

    def expect(self, thing: S, version: int) -> S:
        """The object as it is now, which must still have `version`; raises errors.OutOfSequence."""
        found: S | None = self._rows[type(thing)].get(thing.id)
        if found is None or found.version != version:
            raise errors.OutOfSequence
        return found

    def changes(self) -> list[codec.Put | codec.Remove]:
        """What this transaction does to what is below it."""
        made: list[codec.Put | codec.Remove] = []
        for kind, rows in self._rows.items():
            for key, thing in rows.changed.items():
                made.append(codec.Remove(kind, key) if thing is None else codec.Put(thing))
        return made

    def take(self, other: Transaction) -> None:
        """Makes the writes of a transaction that was laid over this one its own."""
        self.data += other.data
        for kind, rows in other._rows.items():
            self._rows[kind].changed.update(rows.changed)

    def count(self) -> int:
        """How many objects it changes."""
        return sum(len(rows.changed) for rows in self._rows.values())


@dataclass(slots=True)
class _Waiting(Generic[T]):
    change: Callable[[Transaction], T]
    done: asyncio.Future[T]
    result: T | None = None


class Watch:
    """Every change after the moment of `store.watch()`; closed by leaving its `with` block.

    Use: `with store.watch() as watch: look at store.view(); async for changes in watch: …`.
    What piled up since the last step comes as one ChangeSet.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: deque[Change] = deque()
        self._resync = False
        self._index = store.view().index
        self._event = asyncio.Event()

    @property
    def view(self) -> ReadView:
        """The store's view: at creation, the state that the first ChangeSet follows on."""
        return self._store.view()

    def push(self, changes: ChangeSet) -> None:
        """Called by the store for each applied entry."""
        self._index = changes.index
        if changes.resync or len(self._waiting) + len(changes.changes) > WATCH_LIMIT:
            self._waiting.clear()
            self._resync = True
        elif not self._resync:
            self._waiting.extend(changes.changes)
        if self._resync or self._waiting:
            self._event.set()

    async def next(self) -> ChangeSet:
        """Waits for changes. May be cancelled (for a deadline) without losing any."""
        await self._event.wait()
        self._event.clear()
        made = ChangeSet(self._index, tuple(self._waiting), self._resync)
        self._waiting.clear()
        self._resync = False
        return made

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChangeSet:
        return await self.next()

    def close(self) -> None:
        """Ends the watch: no more changes come."""
        self._store.unsubscribe(self.push)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Capture:
    """The whole state at one index, cheap to take; `encode` may run in a thread."""

    index: int
    term: int
    objects: tuple[StoreObject, ...] = field(repr=False)

    def encode(self) -> bytes:
        """The bytes of a snapshot."""
        return codec.encode_snapshot(self.objects, self.index, self.term)


class Store:
    """See the module's text."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._view = View(memory())
        self._term = 0
        self._propose: Propose | None = None
        self._subscribers: list[Callable[[ChangeSet], None]] = []
        self._queue: deque[_Waiting[Any]] = deque()
        self._writer: asyncio.Task[None] | None = None

    def attach(self, propose: Propose | None) -> None:
        """Connects the store with consensus; None disconnects it, and every update fails."""
        self._propose = propose

    async def close(self) -> None:
        """Ends the writer; updates that it had not finished are cancelled."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])
        for waiting in self._queue:
            waiting.done.cancel()
        self._queue.clear()

    @property
    def term(self) -> int:
        """The term of the last applied entry."""
        return self._term

    def view(self) -> View:
        """The applied state; see view.py for how long it may be read."""
        return self._view

    # ---- writing

    async def update(self, change: Callable[[Transaction], T]) -> T:
        """Runs `change` on a transaction and returns its result once what it wrote is applied.

        `change` is synchronous and runs once. What it raises comes out here, and then nothing of it is written.
        Objects that `tx.put` returns carry no version yet: read them from the view afterwards.
        """
        waiting: _Waiting[T] = _Waiting(change, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="store writer")
        return await waiting.done

    async def batch(self, changes: Iterable[Callable[[Transaction], object]]) -> None:
        """Independent changes in as few entries as ENTRY_CHANGES allows. All are tried; the first failure is raised."""
        pending = list(changes)
        for start in range(0, len(pending), ENTRY_CHANGES):
            group = pending[start : start + ENTRY_CHANGES]
            results = await asyncio.gather(*(self.update(c) for c in group), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def _write(self) -> None:
        """The writer: makes entries of what waits, one at a time, until nothing does."""
        while self._queue:
            joined = Transaction(self._view, self._clock.now_ns())
            served: list[_Waiting[Any]] = []
            while self._queue and joined.count() < ENTRY_CHANGES and joined.data < ENTRY_DATA:
                waiting = self._queue.popleft()
                if not waiting.done.done() and self._run(joined, waiting):
                    served.append(waiting)
            await self._commit(joined, served)

    def _run(self, joined: Transaction, waiting: _Waiting[Any]) -> bool:
        part = Transaction(joined.view, self._clock.now_ns())
        try:
            waiting.result = waiting.change(part)
        except Exception as exc:  # noqa: BLE001 - it is the caller's own, and goes to the caller
            waiting.done.set_exception(exc)
            return False
        joined.take(part)
        return True

    async def _commit(self, joined: Transaction, served: Sequence[_Waiting[Any]]) -> None:
        try:
            if changes := joined.changes():
                await self._submit(codec.encode(changes))
        except asyncio.CancelledError:
            for waiting in served:
                waiting.done.cancel()
            raise
        except Exception as exc:  # noqa: BLE001 - goes to every caller whose write failed
            for waiting in served:
                if not waiting.done.done():
                    waiting.done.set_exception(exc)
            return
        for waiting in served:
            if not waiting.done.done():
                waiting.done.set_result(waiting.result)

    async def _submit(self, data: bytes) -> None:
        if self._propose is None:
            raise errors.ShoalError(NO_LEADER)
        if len(data) > ENTRY_BYTES:
            raise errors.InvalidArgument(f"a change of {len(data)} bytes is larger than {ENTRY_BYTES}")
        await self._propose(data)

    # ---- what consensus calls

    def apply(self, index: int, term: int, data: bytes) -> None:
        """Applies the entry at `index`; an entry without data (a leader's first) only moves the index."""
        if index <= self._view.index:
            raise ValueError(f"entry {index} comes after {self._view.index} was applied")
        changes = [c for c in map(self._apply, codec.decode(data, index) if data else ()) if c is not None]
        self._view.index, self._term = index, term
        self._publish(ChangeSet(index, tuple(changes)))

    def _apply(self, change: codec.Put | codec.Remove) -> Change | None:
        if isinstance(change, codec.Put):
            old = self._view.rows[type(change.thing)].put(change.thing)
            return Change(ChangeKind.CREATE if old is None else ChangeKind.UPDATE, old, change.thing)
        old = self._view.rows[change.kind].remove(change.id)
        return None if old is None else Change(ChangeKind.REMOVE, old, None)

    def capture(self) -> Capture:
        """The state as it is now, for a snapshot."""
        objects = tuple(thing for kind in INDEXES for thing in self._view.rows[kind].all())
        return Capture(self._view.index, self._term, objects)

    def snapshot(self) -> bytes:
        """The state as it is now, as bytes."""
        return self.capture().encode()

    def restore(self, data: bytes) -> None:
        """Replaces the whole state by a snapshot's; watchers are told to look at everything again."""
        objects, index, term = codec.decode_snapshot(data)
        rows = memory()
        for thing in objects:
            rows[type(thing)].put(thing)
        # The view object stays the same: whoever holds it sees the new state.
        self._view.replace(rows, index)
        self._term = term
        self._publish(ChangeSet(index, (), resync=True))

    # ---- watching

    def watch(self) -> Watch:
        """Follows every change from now on; use it as a context manager."""
        watch = Watch(self)
        self.subscribe(watch.push)
        return watch

    def subscribe(self, callback: Callable[[ChangeSet], None]) -> None:
        """Calls `callback` synchronously after each applied entry. It must be quick and must not raise."""
        self._subscribers.append(callback)

    def unsubscribe(self, callback: Callable[[ChangeSet], None]) -> None:
        """Ends a subscription; one that has ended already is no error."""
        if callback in self._subscribers:
            self._subscribers.remove(callback)

    def _publish(self, changes: ChangeSet) -> None:
        for callback in tuple(self._subscribers):
            callback(changes)
