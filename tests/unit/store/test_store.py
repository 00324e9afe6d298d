"""The store: indexes always fit the objects, watches have no gap, snapshots are the whole state."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import errors, model
from manager.store import THIS_INDEX, Change, ChangeKind, ChangeSet, Store, StoreObject, Transaction
from manager.store.tables import INDEXES, view_of


class Clock:
    def __init__(self) -> None:
        self.now = 1_000

    def now_ns(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1e9


class Log:
    """Consensus that agrees at once, and remembers."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.entries: list[bytes] = []
        store.attach(self.propose)

    async def propose(self, data: bytes) -> int:
        await asyncio.sleep(0)
        self.entries.append(data)
        self.store.apply(len(self.entries), 1, data)
        return len(self.entries)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Store:
    made = Store(clock)
    Log(made)
    return made


def service(key: str, name: str) -> model.Service:
    return model.Service(id=key, spec=model.ServiceSpec(name=name))


def task(key: str, service_id: str = "s", slot: int = 1, node: str = "") -> model.Task:
    return model.Task(id=key, service_id=service_id, slot=slot, node_id=node)


async def test_update_returns_after_it_is_applied(store: Store, clock: Clock) -> None:
    assert await store.update(lambda tx: tx.put(service("a", "web")).id) == "a"
    found = store.view().services.by_name("WEB")
    assert found is not None
    assert (found.version, found.created_at, found.updated_at) == (1, 1_000, 1_000)
    clock.now = 2_000
    await store.update(lambda tx: tx.put(replace(found, error="x")))
    again = store.view().services.get("a")
    assert again is not None
    assert (again.version, again.created_at, again.updated_at, again.error) == (2, 1_000, 2_000, "x")


async def test_a_transaction_sees_its_own_writes(store: Store) -> None:
    await store.update(lambda tx: [tx.put(task("1")), tx.put(task("2", node="n"))])

    def change(tx: Transaction) -> None:
        tx.put(task("3", node="n"))
        tx.put(task("1", node="n"))
        tx.remove(task("2"))
        assert [t.id for t in tx.view.tasks.by_node("n")] == ["3", "1"]
        assert len(tx.view.tasks) == 2
        assert {t.id for t in tx.view.tasks.all()} == {"1", "3"}
        assert tx.view.tasks.get("2") is None
        assert len(store.view().tasks) == 2
        assert store.view().tasks.get("3") is None

    await store.update(change)
    assert {t.id for t in store.view().tasks.by_node("n")} == {"1", "3"}


async def test_what_a_change_raises_comes_out_and_nothing_is_written(store: Store) -> None:
    def change(tx: Transaction) -> None:
        tx.put(service("a", "web"))
        raise errors.InvalidArgument("no")

    with pytest.raises(errors.InvalidArgument):
        await store.update(change)
    assert store.view().index == 0
    assert len(store.view().services) == 0


async def test_stale_versions_are_refused(store: Store) -> None:
    await store.update(lambda tx: tx.put(service("a", "web")))
    old = store.view().services.get("a")
    assert old is not None
    await store.update(lambda tx: tx.put(tx.expect(old, old.version)))
    with pytest.raises(errors.OutOfSequence):
        await store.update(lambda tx: tx.expect(old, old.version))
    with pytest.raises(errors.OutOfSequence):
        await store.update(lambda tx: tx.expect(service("b", "x"), 0))


async def test_of_two_updates_from_one_version_at_once_one_is_refused(store: Store) -> None:
    await store.update(lambda tx: tx.put(service("a", "web")))
    results = await asyncio.gather(
        *(store.update(lambda tx: tx.put(tx.expect(service("a", ""), 1))) for _ in range(2)),
        return_exceptions=True,
    )
    assert [isinstance(r, errors.OutOfSequence) for r in results] == [False, True]


async def test_waiting_updates_share_an_entry(clock: Clock) -> None:
    store = Store(clock)
    log = Log(store)
    await asyncio.gather(*(store.update(lambda tx, n=n: tx.put(task(f"{n}"))) for n in range(50)))
    assert len(log.entries) == 1
    await store.batch([lambda tx, n=n: tx.put(task(f"x{n}")) for n in range(450)])
    assert len(log.entries) == 4
    assert len(store.view().tasks) == 500


async def test_a_failed_proposal_fails_every_update_in_it(clock: Clock) -> None:
    store = Store(clock)

    async def fail(data: bytes) -> int:
        raise errors.Internal("disk full")

    store.attach(fail)
    results = await asyncio.gather(
        *(store.update(lambda tx, n=n: tx.put(task(f"{n}"))) for n in range(3)), return_exceptions=True
    )
    assert all(isinstance(r, errors.Internal) for r in results)
    assert len(store.view().tasks) == 0
    store.attach(None)
    with pytest.raises(errors.ShoalError, match="does not have a leader"):
        await store.update(lambda tx: tx.put(task("1")))


async def test_a_cancelled_caller_does_not_disturb_the_others(clock: Clock) -> None:
    store, gate = Store(clock), asyncio.Event()

    async def slow(data: bytes) -> int:
        await gate.wait()
        store.apply(store.view().index + 1, 1, data)
        return store.view().index

    store.attach(slow)
    first = asyncio.create_task(store.update(lambda tx: tx.put(task("1"))))
    other = asyncio.create_task(store.update(lambda tx: tx.put(task("2"))))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    gate.set()
    await other
    assert store.view().tasks.get("2") is not None


async def test_indexes_of_this_entry_are_filled_in(store: Store) -> None:
    await store.update(lambda tx: tx.put(service("z", "z")))
    hold = model.AddressHold(addr="10.0.0.9", index=THIS_INDEX)
    await store.update(
        lambda tx: [
            tx.put(replace(task("1"), assigned_index=THIS_INDEX, endpoint_index=THIS_INDEX)),
            tx.put(replace(service("a", "a"), spec_version=THIS_INDEX)),
            tx.put(model.Network(id="n", held=(hold, model.AddressHold(addr="10.0.0.8", index=1)))),
        ]
    )
    view = store.view()
    one, made, network = view.tasks.get("1"), view.services.get("a"), view.networks.get("n")
    assert one is not None
    assert made is not None
    assert network is not None
    assert (one.assigned_index, one.endpoint_index, made.spec_version) == (2, 2, 2)
    assert [h.index for h in network.held] == [2, 1]


async def test_an_object_needs_an_id(store: Store) -> None:
    with pytest.raises(ValueError, match="without an id"):
        await store.update(lambda tx: tx.put(model.Task()))


async def test_a_watch_has_no_gap_and_joins_what_piled_up(store: Store) -> None:
    await store.update(lambda tx: tx.put(task("0")))
    with store.watch() as watch:
        seen = {t.id for t in watch.view.tasks.all()}
        for n in range(1, 5):
            await store.update(lambda tx, n=n: tx.put(task(f"{n}")))
        changes = await watch.next()
        assert (changes.index, changes.resync) == (5, False)
        seen |= {c.subject.id for c in changes.changes}
        await store.update(lambda tx: tx.remove(task("1")))
        async for more in watch:
            assert [(c.kind, c.subject.id) for c in more.changes] == [(ChangeKind.REMOVE, "1")]
            break
    assert seen == {"0", "1", "2", "3", "4"}
    await store.update(lambda tx: tx.put(task("9")))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(watch.next(), 0.01)


async def test_a_deadline_on_a_watch_loses_nothing(store: Store) -> None:
    with store.watch() as watch:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watch.next(), 0.01)
        await store.update(lambda tx: tx.put(task("1")))
        assert [c.subject.id for c in (await watch.next()).changes] == ["1"]


async def test_a_slow_watcher_is_told_to_look_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manager.store.store.WATCH_LIMIT", 10)
    with store.watch() as watch:
        for n in range(8):
            await store.update(lambda tx, n=n: [tx.put(task(f"{n}")), tx.put(task(f"x{n}"))])
        changes = await watch.next()
        assert (changes.index, changes.changes, changes.resync) == (8, (), True)
        await store.update(lambda tx: tx.put(task("more")))
        assert not (await watch.next()).resync


async def test_a_removed_object_that_never_was_changes_nothing(store: Store) -> None:
    heard: list[ChangeSet] = []
    store.subscribe(heard.append)
    await store.update(lambda tx: [tx.put(task("1")), tx.remove(task("1"))])
    assert [c for s in heard for c in s.changes] == []


# ---- random histories

KEYS = st.sampled_from([f"k{n}" for n in range(12)])
OBJECTS: st.SearchStrategy[StoreObject] = st.one_of(
    st.builds(task, KEYS, st.sampled_from("ab"), st.integers(1, 3), st.sampled_from(["", "n1", "n2"])),
    st.builds(lambda key: service(key, f"name-{key}"), KEYS),
    st.builds(
        lambda key, name: model.Node(id=key, description=model.NodeDescription(hostname=name)),
        KEYS, st.sampled_from(["h1", "H1", "h2"]),
    ),
    st.builds(lambda key: model.Network(id=key, spec=model.NetworkSpec(name=key)), KEYS),
)  # fmt: skip
STEPS = st.lists(st.lists(st.tuples(st.booleans(), OBJECTS), min_size=1, max_size=6), max_size=25)


def consistent(store: Store) -> None:
    """Every index gives exactly what a scan gives."""
    for kind, keys in INDEXES.items():
        rows = store.view().rows[kind]
        for name, key_of in keys.items():
            for value in {key_of(thing) for thing in rows.all()}:
                expected = {t.id for t in rows.all() if key_of(t) == value}
                assert {t.id for t in rows.by(name, value)} == expected
            assert set(rows._by[name]) == {key_of(thing) for thing in rows.all()}


def whole(store: Store) -> dict[tuple[str, str], StoreObject]:
    return {(type(t).__name__, t.id): t for t in store.capture().objects}


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_random_histories(steps: list[list[tuple[bool, StoreObject]]]) -> None:
    asyncio.run(_history(steps))


async def _history(steps: list[list[tuple[bool, StoreObject]]]) -> None:
    store = Store(Clock())
    log = Log(store)
    followed: dict[tuple[str, str], StoreObject] = {}

    def follow(changes: ChangeSet) -> None:
        for change in changes.changes:
            _follow(followed, change)

    store.subscribe(follow)
    for step in steps:
        await store.update(lambda tx, step=step: [_do(tx, *one) for one in step])
        consistent(store)
    assert followed == whole(store)
    copy, replica = Store(Clock()), Store(Clock())
    copy.restore(store.snapshot())
    for index, data in enumerate(log.entries, 1):
        replica.apply(index, 1, data)
    for other in (copy, replica):
        consistent(other)
        assert whole(other) == whole(store)
        assert (other.view().index, other.term) == (store.view().index, store.term)
    await store.close()


def _do(tx: Transaction, remove: bool, thing: StoreObject) -> None:
    if remove:
        tx.remove(thing)
    else:
        tx.put(thing)


def _follow(followed: dict[tuple[str, str], StoreObject], change: Change) -> None:
    key = (type(change.subject).__name__, change.subject.id)
    assert followed.get(key) == change.old
    if change.new is None:
        del followed[key]
    else:
        followed[key] = change.new


def test_view_of() -> None:
    view = view_of([task("1", node="n"), model.Cluster(id="c")], index=7)
    assert (view.index, view.cluster.id) == (7, "c")
    assert [t.id for t in view.tasks.by_node("n")] == ["1"]
    assert view_of([]).cluster.id == ""


async def test_restore_tells_watchers_to_look_again(store: Store) -> None:
    other = Store(Clock())
    Log(other)
    await other.update(lambda tx: tx.put(task("1")))
    with store.watch() as watch:
        view = store.view()
        store.restore(other.snapshot())
        assert (await watch.next()).resync
        assert view.tasks.get("1") is not None


async def test_bulky_updates_that_come_together_are_several_entries(clock: Clock) -> None:
    store = Store(clock)
    log = Log(store)

    def writing(number: int) -> Callable[[Transaction], model.Config]:
        spec = model.ConfigSpec(name=f"c{number}", data=bytes(1_000_000))
        return lambda tx: tx.put(model.Config(id=f"c{number}", spec=spec))

    await asyncio.gather(*(store.update(writing(n)) for n in range(20)))
    assert len(store.view().configs) == 20
    assert [len(entry) // 1_000_000 for entry in log.entries] == [5, 5, 5, 5]
    with pytest.raises(errors.InvalidArgument, match=r"is larger than 8388608$"):
        await store.update(lambda tx: [writing(n)(tx) for n in range(9)])
