"""A process that writes to a disk is killed at any moment; what it was told is synced must be there again.

The writer is a fork of this process: it tells by a pipe what it is about to do and what has returned. `tests/soak/log.py`
runs it, a test runs that for a few rounds.
"""

from __future__ import annotations

import os
import pickle
import random
import select
import signal
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path

from manager.raft.disk import FileDisk
from manager.raft.seal import Damaged, Keys, new_keys, read_keys, unlock
from tests.unit.raft.disk_model import Call, Model, Rotate, Save, entry, make, next_call

SEGMENT = 16 << 10
_LENGTH = struct.Struct("<I")
_START = 60.0


class Lost(Exception):
    """What was found is neither what was acknowledged nor that and the call that was cut off."""


@dataclass
class Tally:
    """What the rounds so far have shown."""

    rounds: int = 0
    calls: int = 0  # acknowledged
    entries: int = 0  # acknowledged
    rotations: int = 0  # of the key, acknowledged
    found: int = 0  # acknowledged entries that were there after a kill, each round's counted
    cut_off: int = 0  # calls under way at the kill
    cut_off_and_there: int = 0
    torn: int = 0  # tails damaged on purpose: like a power cut's
    flipped: int = 0  # and like a bad sector's: named
    now: Model = field(default_factory=Model)


def open_disk(folder: Path) -> tuple[FileDisk, Keys]:
    """The disk in `folder` and its keys, made at the first time."""
    path = folder / "seal.key"
    if not path.exists():
        new_keys().save(path)
    keys = unlock(read_keys(path))
    return FileDisk(folder / "raft", keys.sealer(), SEGMENT), keys


def rotate(folder: Path, disk: FileDisk, keys: Keys) -> Keys:
    """All steps of a new data key, or those that are left."""
    if not keys.rotating:
        keys = keys.with_new_key()
        keys.save(folder / "seal.key")
    disk.rotate(keys.sealer())
    keys = keys.without_old_keys()
    keys.save(folder / "seal.key")
    return keys


def load(folder: Path) -> Model:
    """What is there."""
    disk, _ = open_disk(folder)
    try:
        found = disk.load()
    finally:
        disk.close()
    return Model(found.snapshot, found.entries, found.state)


def write(folder: Path, seed: int, pipe: int) -> None:
    """The writer: goes on until it is killed."""

    def tell(word: Call | str) -> None:
        data = pickle.dumps(word)
        os.write(pipe, _LENGTH.pack(len(data)) + data)

    rng = random.Random(seed)
    disk, keys = open_disk(folder)
    found = disk.load()
    now = Model(found.snapshot, found.entries, found.state)
    if keys.rotating:
        keys = rotate(folder, disk, keys)
    while True:
        call = next_call(rng, now)
        tell(call)
        if isinstance(call, Rotate):
            keys = rotate(folder, disk, keys)
        else:
            make(disk, call)
        now = now.after(call)
        tell("done")


class _Told:
    """Follows what the writer tells."""

    def __init__(self, pipe: int, tally: Tally) -> None:
        self._pipe = pipe
        self._data = b""
        self._tally = tally
        self.now = tally.now
        self.under_way: Call | None = None

    def read(self, deadline: float, first: bool = False) -> None:
        """Reads until `deadline`, until the first word is there, or until the writer is gone."""
        while (left := deadline - time.monotonic()) > 0 and select.select([self._pipe], [], [], left)[0]:
            piece = os.read(self._pipe, 1 << 16)
            self._data += piece
            while len(self._data) >= (end := self._end()):
                self._take(pickle.loads(self._data[_LENGTH.size : end]))
                self._data = self._data[end:]
            if not piece or (first and self.under_way is not None):
                return

    def _end(self) -> int:
        if len(self._data) < _LENGTH.size:
            return _LENGTH.size + 1
        return _LENGTH.size + int(_LENGTH.unpack_from(self._data)[0])

    def _take(self, word: Call | str) -> None:
        if not isinstance(word, str):
            self.under_way = word
            return
        call, self.under_way = self.under_way, None
        assert call is not None
        self.now = self.now.after(call)
        self._tally.calls += 1
        self._tally.entries += len(call.entries) if isinstance(call, Save) else 0
        self._tally.rotations += isinstance(call, Rotate)


def round_of(folder: Path, rng: random.Random, tally: Tally) -> None:
    """Starts a writer, kills it, and looks; raises Lost."""
    source, pipe = os.pipe()
    seed = rng.getrandbits(32)
    pid = os.fork()
    if not pid:
        # The child must never come back into the caller, whatever happens to it.
        try:
            os.close(source)
            write(folder, seed, pipe)
        finally:
            os._exit(1)
    os.close(pipe)
    told = _Told(source, tally)
    try:
        told.read(time.monotonic() + _START, first=True)
        told.read(time.monotonic() + rng.uniform(0.0, 0.08))
    finally:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        told.read(time.monotonic() + _START)  # what was still in the pipe when it died
        os.close(source)
    if not os.WIFSIGNALED(status):
        raise Lost(f"seed {seed}: the writer could not go on with what was there")
    _judge(folder, seed, told, tally)
    _damage(folder, rng, tally)


def _seen(now: Model) -> Model:
    found = now.loaded()
    return Model(found.snapshot, found.entries, found.state)


def _judge(folder: Path, seed: int, told: _Told, tally: Tally) -> None:
    found = load(folder)
    after = told.now.after(told.under_way) if told.under_way else told.now
    if found not in (_seen(told.now), _seen(after)):
        raise Lost(
            f"seed {seed}: acknowledged {told.now.base}..{told.now.last} {told.now.state}, under way "
            f"{type(told.under_way).__name__}, found {found.base}..{found.last} {found.state}"
        )
    there = found == _seen(after)
    tally.rounds += 1
    tally.found += len(told.now.entries)
    if told.under_way is not None:
        tally.cut_off += 1
        tally.cut_off_and_there += there
    tally.now = after if there else told.now


def _damage(folder: Path, rng: random.Random, tally: Tally) -> None:
    """A last write that a power cut tore is cut away, or whole; one that was changed later is named."""
    disk, _ = open_disk(folder)
    disk.load()
    path = max((folder / "raft/log").glob("*.log"))
    before, now = path.read_bytes(), tally.now
    after = now.after(call := Save(None, tuple(entry(rng, now.last + n, 99) for n in (1, 2, 3))))
    make(disk, call)
    disk.close()
    if max((folder / "raft/log").glob("*.log")) == path:
        whole = path.read_bytes()
        changed = [n for n in range(len(before)) if before[n : n + 1] != whole[n : n + 1]]
        flipped = bytearray(whole)
        flipped[rng.choice(changed)] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            load(folder)
        except Damaged:
            tally.flipped += 1
        else:
            raise Lost(f"a changed bit in the last write of {path} was not noticed")
        torn = bytearray(whole)
        for start in range(changed[0] // 512 * 512, changed[-1] + 1, 512):
            if rng.random() < 0.5:
                torn[start : start + 512] = before[start : start + 512]
        path.write_bytes(torn)
        tally.torn += 1
    found = load(folder)
    if found not in (_seen(now), _seen(after)):
        raise Lost(f"after a torn write: {found.base}..{found.last}, before it {now.base}..{now.last}")
    tally.now = after if found == _seen(after) else now
