"""The agent's memory: round trips, damage, and what must never be written."""

import asyncio
import json
import os
import random
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import database
from agent.database import Contact, TaskRecord
from agent.single.record import LocalNetwork
from agent.state import NodeState
from common import errors, model

CREDENTIALS = "c2VjcmV0LXBhc3N3b3Jk"


def task(number: int, pull_auth: str = "") -> model.TaskAssignment:
    spec = model.TaskSpec(container=model.ContainerSpec(image="nginx", pull_auth=pull_auth))
    return model.TaskAssignment(model.Task(id=f"t{number}", name=f"web.{number}.t{number}", spec=spec))


def some_state() -> NodeState:
    return NodeState(
        node_id="n1", fence=model.Fence("c1", 1, 2, 3), chain="abc",
        tasks={"t1": task(1)},
        networks={"net1": model.Network(id="net1", vni=7)},
        services={"s1": model.ServiceRecord("s1", "web")},
        endpoints={("t1", "net1"): model.EndpointRecord("t1", "net1", "10.0.0.3")},
        nodes={"n1": model.NodeRecord("n1", "one")},
        configs={"c1": model.ConfigRecord("c1", "app-conf", b"plain text")},
    )  # fmt: skip


def _contents(folder: Path) -> bytes:
    return b"".join(p.read_bytes() for p in folder.iterdir())


async def test_everything_comes_back(tmp_path: Path) -> None:
    db, remembered = database.open_database(tmp_path)
    assert remembered == database.Remembered()
    record = TaskRecord(
        "t1", "c" * 64, model.TaskStatus(5, model.TaskState.TASK_RUNNING, "started"), True, "b/1"
    )
    contact = Contact(
        (model.ManagerAddress("n1", "10.0.0.1:2377"),), (model.EncryptionKey("gossip", b"k" * 16, 1),)
    )
    await db.put_state(some_state())
    await db.put_tasks([record])
    await db.put_contact(contact)
    db.close()
    db, remembered = database.open_database(tmp_path)
    assert remembered == database.Remembered(some_state(), {"t1": record}, contact)
    await db.clear()
    db.close()
    db, remembered = database.open_database(tmp_path)
    assert remembered == database.Remembered()
    db.close()


async def test_credentials_and_plain_text_are_never_on_the_disk(tmp_path: Path) -> None:
    db, _ = database.open_database(tmp_path)
    await db.put_state(replace(some_state(), tasks={"t1": task(1, CREDENTIALS)}))
    on_disk = _contents(tmp_path)
    db.close()
    assert CREDENTIALS.encode() not in on_disk
    assert b"nginx" not in on_disk
    assert b"plain text" not in on_disk
    db, remembered = database.open_database(tmp_path)
    container = remembered.state.tasks["t1"].task.spec.container
    assert container is not None
    assert container.pull_auth == ""
    db.close()
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_incremental_writes_equal_the_last_state(tmp_path_factory: object, data: st.DataObject) -> None:
    import asyncio

    folder = tmp_path_factory.mktemp("db")  # type: ignore[attr-defined]

    async def scenario() -> None:
        db, remembered = database.open_database(folder)
        state = remembered.state
        for index in range(data.draw(st.integers(1, 5))):
            numbers = data.draw(st.lists(st.integers(0, 6), max_size=4, unique=True))
            changes = [
                model.AssignmentChange(
                    False, f"task/t{n}", model.Assignment(task=replace(task(n), peers_ready=bool(index % 2)))
                )
                for n in numbers
            ]
            gone = data.draw(st.lists(st.integers(0, 6), max_size=3, unique=True))
            changes += [model.AssignmentChange(True, f"task/t{n}") for n in gone]
            complete = data.draw(st.booleans())
            state = state.with_changes(changes, model.Fence("c1", 1, 1, index), f"chain{index}", complete)
            await db.put_state(state)
        db.close()
        db, remembered = database.open_database(folder)
        db.close()
        assert remembered.state == state

    asyncio.run(scenario())


async def test_a_damaged_file_is_kept_aside_and_a_new_one_begins(tmp_path: Path, caplog: object) -> None:
    db, _ = database.open_database(tmp_path)
    await db.put_state(some_state())
    db.close()
    path = tmp_path / database.FILE
    data = bytearray(path.read_bytes())
    rng = random.Random(1)
    for at in range(100, len(data)):
        data[at] = rng.randrange(256)
    path.write_bytes(data)
    db, remembered = database.open_database(tmp_path)
    db.close()
    assert remembered == database.Remembered()
    assert ".damaged-" in " ".join(os.listdir(tmp_path))
    assert "is damaged" in caplog.text  # type: ignore[attr-defined]


async def test_another_nodes_file_does_not_open(tmp_path: Path) -> None:
    db, _ = database.open_database(tmp_path)
    await db.put_state(some_state())
    db.close()
    (tmp_path / "key").unlink()
    db, remembered = database.open_database(tmp_path)
    db.close()
    assert remembered.state == NodeState()


def test_identity_of_a_node(tmp_path: Path) -> None:
    from agent import identity

    assert identity.load(tmp_path) is None
    mine = identity.Identity(
        "n1", "c1", "key", "cert", "root", "m", managers=("10.0.0.1:2377",), manager=True
    )
    identity.save(tmp_path, mine)
    assert identity.load(tmp_path) == mine
    newer = {**json.loads((tmp_path / identity.FILE).read_bytes()), "of_the_next_version": 1}
    (tmp_path / identity.FILE).write_text(json.dumps(newer))
    assert identity.load(tmp_path) == mine  # an agent that is set back to an older version is still this node
    for damaged in ("[]", "{", '{"node_id": "n1"}'):
        (tmp_path / identity.FILE).write_text(damaged)
        with pytest.raises(errors.Internal, match="damaged"):
            identity.load(tmp_path)
    identity.save(tmp_path, mine)
    assert (tmp_path / identity.FILE).stat().st_mode & 0o777 == 0o600
    assert "key" not in repr(mine).replace("key=", "")
    identity.forget(tmp_path)
    assert identity.load(tmp_path) is None


async def test_a_full_disk_stops_nothing(tmp_path: Path, caplog: object) -> None:
    db, _ = database.open_database(tmp_path)
    await db.put_state(some_state())
    db._db.execute("PRAGMA max_page_count=1")
    record = TaskRecord("t1", "c" * 60000)
    await db.put_tasks([record])
    assert "nothing is kept on disk" in caplog.text  # type: ignore[attr-defined]
    db._db.execute("PRAGMA max_page_count=100000")
    await db.put_tasks([record])
    assert "takes writes again" in caplog.text  # type: ignore[attr-defined]
    db.close()
    db, remembered = database.open_database(tmp_path)
    db.close()
    assert remembered.tasks == {"t1": record}


async def test_a_file_that_cannot_be_written_is_read_and_stays(tmp_path: Path, monkeypatch: object) -> None:
    db, _ = database.open_database(tmp_path)
    await db.put_state(some_state())
    db.close()
    prepare = database.Database.prepare

    def full(self: database.Database) -> database.Remembered:
        if self._db.execute("PRAGMA database_list").fetchone()[2]:
            raise sqlite3.OperationalError("database or disk is full")
        return prepare(self)

    monkeypatch.setattr(database.Database, "prepare", full)  # type: ignore[attr-defined]
    db, remembered = database.open_database(tmp_path)
    assert remembered.state == some_state()
    await db.put_tasks([TaskRecord("t1", "c1")])
    db.close()
    assert ".damaged-" not in " ".join(os.listdir(tmp_path))


async def test_networks_of_this_nodes_own(tmp_path: Path) -> None:
    network = LocalNetwork("n" * 64, "net", 5, "br-n", "172.28.0.0/16", "172.28.0.1", labels={"a": "b"})
    db, remembered = database.open_database(tmp_path)
    assert remembered.networks == {}
    await db.put_network(network)
    await db.clear()  # they are no part of the swarm
    db.close()
    db, remembered = database.open_database(tmp_path)
    assert remembered.networks == {network.id: network}
    await db.drop_network(network.id)
    assert db.read().networks == {}
    db._db.execute("DROP TABLE network")  # as an older version has left it
    assert db.read().networks == {}
    db.close()


async def test_a_write_whose_caller_is_gone_counts(tmp_path: Path) -> None:
    """The session may end while the disk is slow: the next state is written over what is really there."""
    db, _ = database.open_database(tmp_path)
    first, second = some_state(), replace(some_state(), tasks={"t2": task(2)}, chain="second")
    third = replace(first, services={}, chain="third")
    await db.put_state(first)
    gate = threading.Event()
    db._thread.submit(gate.wait)
    cut_off = asyncio.create_task(db.put_state(second))
    await asyncio.sleep(0)
    cut_off.cancel()
    await asyncio.wait([cut_off])
    assert cut_off.cancelled()
    gate.set()
    await db.put_state(third)
    db.close()
    db, remembered = database.open_database(tmp_path)
    assert remembered.state == third
    db.close()
