"""The steps to a new lock may end anywhere: the old or the new unlock key opens everything, and the next start ends them."""

import asyncio
import errno
import random
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from common import model
from common.clock import SystemClock
from manager import keeper
from manager.identity import Folder
from manager.keeper import Keeper, open_private, private
from manager.raft.disk import FileDisk
from manager.raft.seal import Keys, Sealer, new_keys, read_keys, unlock
from manager.store import codec
from manager.store.store import Store
from tests.unit.raft.crashes import Recorder, put
from tests.unit.raft.disk_model import Model, Rotate, history, make

PEM = b"-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n"
OLD, NEW = bytes(range(32)), bytes(range(32, 64))


def store_with(unlock_key: bytes, generation: int) -> Store:
    cluster = model.Cluster(id="c", unlock_key=unlock_key, unlock_generation=generation)
    store = Store(SystemClock())
    store.restore(codec.encode_snapshot([cluster], 1, 1))
    return store


def filled(path: Path, keys: Keys) -> tuple[Folder, Model]:
    """A member's folder with some history, locked as `keys` says."""
    path.mkdir(parents=True)
    folder = Folder(path)
    keys.save(folder.seal)
    folder.write_certificate(b"chain", private(PEM, keys))
    disk, now = FileDisk(folder.raft, keys.sealer(), 1024), Model()
    disk.load()
    for call in history(random.Random(1), 25):
        if not isinstance(call, Rotate):
            make(disk, call)
            now = now.after(call)
    disk.close()
    return folder, now


def opened(folder: Folder, *unlock_keys: bytes) -> tuple[Keys, Model, bytes]:
    """Everything that the folder holds, by the key of its generation."""
    found = read_keys(folder.seal)
    keys = unlock(found, unlock_keys[found.generation])
    disk = FileDisk(folder.raft, keys.sealer(), 1024)
    loaded = disk.load()
    disk.close()
    model_found = Model(loaded.snapshot, loaded.entries, loaded.state)
    return keys, model_found, open_private(folder.key.read_bytes(), keys.sealer(), folder)


@asynccontextmanager
async def kept(folder: Folder, keys: Keys, store: Store):
    """A Keeper at work on a folder whose disk is open."""
    disk = FileDisk(folder.raft, keys.sealer(), 1024)
    disk.load()
    made = Keeper(folder, keys, store, disk.rotate)
    working = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        working.cancel()
        await asyncio.wait([working])
        disk.close()


async def settled(folder: Folder, generation: int) -> None:
    async with asyncio.timeout(30):
        while True:
            found = read_keys(folder.seal)
            sealed = not folder.key.read_bytes().startswith(b"-----BEGIN")
            if found.generation == generation and len(found.keys) == 1 and sealed == found.locked:
                return
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("wanted", [(b"", OLD), (OLD, NEW), (OLD, b"")], ids=["locked", "rotated", "opened"])
async def test_a_crash_at_any_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: tuple[bytes, bytes]
) -> None:
    before, after = wanted
    keys = new_keys().locked_by(before, 0)
    folder, now = filled(tmp_path / "live", keys)
    with monkeypatch.context() as patched:
        recorder = Recorder(folder.path, random.Random(1), patched)
        async with kept(folder, keys, store_with(after, 1)):
            await settled(folder, 1)
        recorder.keep()
    assert len(recorder.images) > (3 if not after else 20)
    for number, image in enumerate(recorder.images):
        again = Folder(put(image, tmp_path / f"{number}"))
        keys, model_found, pem = opened(again, before, after)
        assert (model_found, pem) == (now, PEM), f"image {number}"
        async with kept(again, keys, store_with(after, 1)) as working:
            await settled(again, 1)
            assert working.unlock_key == after
        last, model_found, pem = opened(again, before, after)
        assert (model_found, pem) == (now, PEM), f"image {number}"
        if after:
            everything = b"".join(p.read_bytes() for p in again.path.rglob("*") if p.is_file())
            assert PEM not in everything
            assert max(last.keys) == 2, "the data key that stood under the old lock is not used any more"


async def test_a_store_that_has_not_caught_up_changes_nothing(tmp_path: Path) -> None:
    keys = new_keys().locked_by(NEW, 2)
    folder, _ = filled(tmp_path / "live", keys)
    before = folder.seal.read_bytes()
    store = store_with(OLD, 1)
    async with kept(folder, keys, store):
        for _ in range(3):
            await asyncio.sleep(0)
        assert folder.seal.read_bytes() == before


async def test_a_full_disk_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeper, "RETRY", 0.01)
    keys = new_keys()
    folder, now = filled(tmp_path / "live", keys)
    disk = FileDisk(folder.raft, keys.sealer(), 1024)
    disk.load()
    failures = iter([True, True, False])

    def rotate(sealer: Sealer) -> None:
        if next(failures):
            raise OSError(errno.ENOSPC, "No space left on device")
        disk.rotate(sealer)

    working = asyncio.create_task(Keeper(folder, keys, store_with(OLD, 1), rotate).run())
    await settled(folder, 1)
    working.cancel()
    await asyncio.wait([working])
    disk.close()
    assert caplog.text.count("No space left on device") == 2
    assert opened(folder, b"", OLD)[1:] == (now, PEM)


async def test_the_key_is_known_also_when_it_was_changed_while_everything_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever goes on in the same process, after an attempt at something else, is not asked for the key."""
    keys = new_keys().locked_by(OLD, 0)
    folder, _ = filled(tmp_path / "live", keys)
    writing, going_on = asyncio.Event(), threading.Event()
    loop, save = asyncio.get_running_loop(), Keys.save

    def slow(changed: Keys, path: Path) -> None:
        loop.call_soon_threadsafe(writing.set)
        assert going_on.wait(30)
        save(changed, path)

    monkeypatch.setattr(Keys, "save", slow)
    made = Keeper(folder, keys, store_with(NEW, 1), lambda sealer: None)
    working = asyncio.create_task(made.run())
    async with asyncio.timeout(30):
        await writing.wait()
    working.cancel()
    await asyncio.sleep(0)
    going_on.set()
    await asyncio.wait([working])
    assert made.unlock_key == NEW
    unlock(read_keys(folder.seal), made.unlock_key)
