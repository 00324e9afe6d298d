"""The agent's memory over restarts: a SQLite file in its state folder, every value sealed by the node's key.

It holds the last assignments (a row each), their fence and chain, the managers' addresses, the network keys, and for
each task the container it has and the last status reported. No secrets and no registry credentials are written. A node that
starts without any manager brings everything back from here, so a status or a container's id is written before it is acted on.

A file that is damaged is moved aside under a name that says so, and an empty one begins: the managers send everything again.
Writes go through one thread, in order; a write that was awaited survives a kill of the process. While the disk is full nothing
is kept, which is logged, and the node goes on: what it lacks after a restart the managers and the containers themselves tell.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from google.protobuf.message import DecodeError

from agent.sealing import Damaged, Seal, node_key
from agent.single.record import LocalNetwork, SingleRecord
from agent.state import NodeState
from common import model

log = logging.getLogger("database")

FORMAT: Final = "1"
FILE: Final = "agent.db"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS assignment (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS task (id TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS single (id TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS network (id TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""
_BROKEN: Final = (sqlite3.DatabaseError, Damaged, DecodeError, ValueError)


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """What this node knows of a task by itself."""

    task_id: str
    container_id: str = ""
    status: model.TaskStatus = field(default_factory=model.TaskStatus)
    acknowledged: bool = False  # the managers have committed `status`
    boot_id: str = ""  # of the machine, when its process was started

    def to_bytes(self) -> bytes:
        head = f"{self.container_id} {int(self.acknowledged)} {self.boot_id}".encode()
        return head + b"\n" + self.status.to_bytes()

    @classmethod
    def from_bytes(cls, task_id: str, data: bytes) -> TaskRecord:
        head, _, status = data.partition(b"\n")
        container_id, acknowledged, boot_id = head.decode().split(" ")
        return cls(task_id, container_id, model.TaskStatus.from_bytes(status), acknowledged == "1", boot_id)


@dataclass(frozen=True, slots=True)
class Contact:
    """How the swarm is reached without asking anybody."""

    managers: tuple[model.ManagerAddress, ...] = ()
    network_keys: tuple[model.EncryptionKey, ...] = ()
    role: model.NodeRole = model.NodeRole.WORKER
    availability: model.Availability = model.Availability.ACTIVE
    # As of when the role is; without a cluster, none was heard.
    fence: model.Fence = field(default_factory=model.Fence)

    def to_bytes(self) -> bytes:
        return model.Welcome(
            managers=self.managers,
            network_keys=self.network_keys,
            role=self.role,
            availability=self.availability,
            fence=self.fence,
        ).to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Contact:
        w = model.Welcome.from_bytes(data)
        return cls(w.managers, w.network_keys, w.role, w.availability, w.fence)


@dataclass(frozen=True, slots=True)
class Remembered:
    """Everything that was kept."""

    state: NodeState = field(default_factory=NodeState)
    tasks: Mapping[str, TaskRecord] = field(default_factory=dict)
    contact: Contact = field(default_factory=Contact)
    singles: Mapping[str, SingleRecord] = field(default_factory=dict)
    networks: Mapping[str, LocalNetwork] = field(default_factory=dict)


class TaskMemory(Protocol):
    """The part that agent/worker uses."""

    async def put_tasks(self, records: Iterable[TaskRecord]) -> None: ...
    async def drop_task(self, task_id: str) -> None: ...


def without_credentials(assignment: model.TaskAssignment) -> model.TaskAssignment:
    """An assignment as it may be written to disk."""
    container = assignment.task.spec.container
    if container is None or not container.pull_auth:
        return assignment
    spec = replace(assignment.task.spec, container=replace(container, pull_auth=""))
    return replace(assignment, task=replace(assignment.task, spec=spec))


def _task_row(assignment: model.TaskAssignment) -> bytes:
    return without_credentials(assignment).to_bytes()


def _rows(state: NodeState) -> dict[str, Callable[[], bytes]]:
    """Every assignment of `state` by its key, encoded when asked for."""
    rows: dict[str, Callable[[], bytes]] = {}
    for task_id, assignment in state.tasks.items():
        rows[f"task/{task_id}"] = partial(_task_row, assignment)
    plain = (
        ("network", state.networks), ("service", state.services), ("node", state.nodes), ("config", state.configs),
    )  # fmt: skip
    for kind, table in plain:
        for key, item in table.items():
            rows[f"{kind}/{key}"] = item.to_bytes
    for (task_id, network_id), endpoint in state.endpoints.items():
        rows[f"endpoint/{task_id}/{network_id}"] = endpoint.to_bytes
    return rows


_KINDS: Final[Mapping[str, type[Any]]] = {
    "task": model.TaskAssignment, "network": model.Network, "service": model.ServiceRecord,
    "endpoint": model.EndpointRecord, "node": model.NodeRecord, "config": model.ConfigRecord,
}  # fmt: skip
_TABLES: Final = {kind: f"{kind}s" for kind in _KINDS}


class Database:
    """One open file; made by `open_database`. Methods that are coroutines write, in the order of their calls."""

    def __init__(self, target: str, seal: Seal) -> None:
        self._seal = seal
        self._db = sqlite3.connect(target, isolation_level=None, check_same_thread=False, uri=True)
        self._failing = False
        self._thread = ThreadPoolExecutor(1, "database")
        self._saved = NodeState()  # as it is in the file; once there is a thread, that one's

    def prepare(self) -> Remembered:
        """Sets the file up and reads all of it; raises one of `_BROKEN` for a damaged one, OperationalError for one
        that cannot be written."""
        self._db.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=5000;"
            " PRAGMA secure_delete=ON;"
        )
        (check,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if check != "ok":
            raise Damaged(str(check))
        self._db.executescript(_SCHEMA)
        if self._get("format", FORMAT.encode()) != FORMAT.encode():
            raise Damaged("the file is of another format")
        self._put("format", FORMAT.encode())
        remembered = self.read()
        self._saved = remembered.state
        return remembered

    def _get(self, name: str, default: bytes = b"") -> bytes:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return default if row is None else self._seal.open(f"meta/{name}", row[0])

    def _has(self, table: str) -> bool:
        """A file that an older version has written, and that cannot be written now, may have fewer tables."""
        found = self._db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,))
        return found.fetchone() is not None

    def _put(self, name: str, value: bytes) -> None:
        self._db.execute("REPLACE INTO meta VALUES (?, ?)", (name, self._seal.seal(f"meta/{name}", value)))

    def read(self) -> Remembered:
        """All that is kept."""
        tables: dict[str, dict[Any, Any]] = {name: {} for name in _TABLES.values()}
        for key, value in self._db.execute("SELECT key, value FROM assignment"):
            kind, _, rest = key.partition("/")
            item = _KINDS[kind].from_bytes(self._seal.open(f"assignment/{key}", value))
            tables[_TABLES[kind]][tuple(rest.split("/", 1)) if kind == "endpoint" else rest] = item
        tasks = {
            task_id: TaskRecord.from_bytes(task_id, self._seal.open(f"task/{task_id}", value))
            for task_id, value in self._db.execute("SELECT id, value FROM task")
        }
        state = NodeState(
            node_id=self._get("node").decode(),
            fence=model.Fence.from_bytes(self._get("fence")),
            chain=self._get("chain").decode(),
            **tables,
        )
        singles = {
            id: SingleRecord.from_bytes(self._seal.open(f"single/{id}", value))
            for id, value in self._db.execute("SELECT id, value FROM single")
        }
        networks = {
            id: LocalNetwork.from_bytes(self._seal.open(f"network/{id}", value))
            for id, value in (
                self._db.execute("SELECT id, value FROM network") if self._has("network") else ()
            )
        }
        return Remembered(state, tasks, Contact.from_bytes(self._get("contact")), singles, networks)

    async def _write(self, function: Callable[[], object], saves: NodeState | None = None) -> None:
        """One transaction; `saves` is the state that the file has after it."""
        # A write that has begun ends, whatever becomes of its caller: what follows builds on it.
        job = asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, function, saves)
        try:
            await asyncio.shield(job)
        except sqlite3.OperationalError as exc:
            if not self._failing:
                log.error("nothing is kept on disk: %s", exc)
            self._failing = True
            return
        if self._failing:
            log.warning("the disk takes writes again")
        self._failing = False

    def _transaction(self, function: Callable[[], object], saves: NodeState | None) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            function()
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        if saves is not None:
            self._saved = saves

    async def put_state(self, state: NodeState) -> None:
        """Keeps `state`; only rows that differ from the last one kept are written."""

        def write() -> None:
            old, new = _items(self._saved), _items(state)
            rows = _rows(state)
            self._db.executemany(
                "DELETE FROM assignment WHERE key = ?", [(key,) for key in old.keys() - new.keys()]
            )
            changed = [key for key, item in new.items() if old.get(key) is not item]
            self._db.executemany(
                "REPLACE INTO assignment VALUES (?, ?)",
                ((key, self._seal.seal(f"assignment/{key}", rows[key]())) for key in changed),
            )
            self._put("node", state.node_id.encode())
            self._put("fence", state.fence.to_bytes())
            self._put("chain", state.chain.encode())

        await self._write(write, saves=state)

    async def put_tasks(self, records: Iterable[TaskRecord]) -> None:
        """Keeps what this node knows of tasks."""
        rows = [(r.task_id, self._seal.seal(f"task/{r.task_id}", r.to_bytes())) for r in records]
        await self._write(lambda: self._db.executemany("REPLACE INTO task VALUES (?, ?)", rows))

    async def drop_task(self, task_id: str) -> None:
        """Forgets a task that is gone."""
        await self._write(lambda: self._db.execute("DELETE FROM task WHERE id = ?", (task_id,)))

    async def put_single(self, record: SingleRecord) -> None:
        """Keeps what this node knows of a single container."""
        id = record.container_id
        row = (id, self._seal.seal(f"single/{id}", record.to_bytes()))
        await self._write(lambda: self._db.execute("REPLACE INTO single VALUES (?, ?)", row))

    async def drop_single(self, container_id: str) -> None:
        """Forgets a single container that is gone."""
        await self._write(lambda: self._db.execute("DELETE FROM single WHERE id = ?", (container_id,)))

    async def put_network(self, network: LocalNetwork) -> None:
        """Keeps a network of this node's own."""
        row = (network.id, self._seal.seal(f"network/{network.id}", network.to_bytes()))
        await self._write(lambda: self._db.execute("REPLACE INTO network VALUES (?, ?)", row))

    async def drop_network(self, network_id: str) -> None:
        """Forgets a network of this node's own."""
        await self._write(lambda: self._db.execute("DELETE FROM network WHERE id = ?", (network_id,)))

    async def put_contact(self, contact: Contact) -> None:
        await self._write(lambda: self._put("contact", contact.to_bytes()))

    async def clear(self) -> None:
        """Forgets the swarm: the node has left it."""

        def write() -> None:
            for table in ("assignment", "task"):
                self._db.execute(f"DELETE FROM {table}")
            self._db.execute("DELETE FROM meta WHERE name <> 'format'")

        await self._write(write, saves=NodeState())

    def close(self) -> None:
        """Waits for what is being written."""
        self._thread.shutdown(wait=True)
        self._db.close()


def _items(state: NodeState) -> dict[str, object]:
    items: dict[str, object] = {}
    for kind, name in _TABLES.items():
        for key, item in getattr(state, name).items():
            items[f"{kind}/{'/'.join(key) if isinstance(key, tuple) else key}"] = item
    return items


def _set_aside(path: Path) -> Path:
    target = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    for suffix in ("", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.rename(target.with_name(target.name + suffix))
    return target


def open_database(folder: Path) -> tuple[Database, Remembered]:
    """Opens (or begins) the database in `folder`. A damaged one is moved aside and named in the log."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / FILE
    seal = Seal(node_key(folder))
    database = Database(f"file:{path}", seal)
    try:
        return database, database.prepare()
    except sqlite3.OperationalError as exc:
        database.close()
        return _without_a_disk(path, seal, exc)
    except _BROKEN as exc:
        database.close()
        aside = _set_aside(path)
        log.error("%s is damaged (%s); kept as %s, starting without it", path, exc, aside)
    database = Database(f"file:{path}", seal)
    return database, database.prepare()


def _without_a_disk(path: Path, seal: Seal, cause: sqlite3.OperationalError) -> tuple[Database, Remembered]:
    """What can be read of a file that cannot be written; this run keeps everything in memory alone."""
    log.error("%s cannot be written (%s): nothing is kept until the agent starts again", path, cause)
    remembered = Remembered()
    if path.exists():
        try:
            old = Database(f"file:{path}?immutable=1", seal)
            try:
                remembered = old.read()
            finally:
                old.close()
        except _BROKEN as exc:
            log.error("%s cannot be read either: %s", path, exc)
    database = Database(":memory:", seal)
    database.prepare()
    return database, remembered
