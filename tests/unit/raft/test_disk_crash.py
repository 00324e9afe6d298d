"""A power cut at any step leaves what was before or after the call it cut off; a changed bit is named."""

import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from manager.raft.disk import FileDisk
from manager.raft.seal import Damaged, Sealer
from tests.unit.raft.crashes import Image, Recorder, image_of, put
from tests.unit.raft.disk_model import Model, Rotate, Save, entry, history, make, next_call

SEGMENT = 1024


def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda fd: None)


def loaded(folder: Path, sealer: Sealer) -> Model:
    disk = FileDisk(folder, sealer, SEGMENT)
    try:
        found = disk.load()
    finally:
        disk.close()
    return Model(found.snapshot, found.entries, found.state)


def seen(model: Model) -> Model:
    """As load shows it."""
    found = model.loaded()
    return Model(found.snapshot, found.entries, found.state)


@pytest.mark.parametrize("seed", range(6))
def test_a_power_cut_at_any_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = random.Random(seed)
    folder, sealer, now = tmp_path / "live", Sealer(bytes(32)), Model()
    left: list[tuple[Image, set[str]]] = []
    with monkeypatch.context() as patched:
        recorder = Recorder(folder, rng, patched)
        disk = FileDisk(folder, sealer, SEGMENT)
        disk.load()
        for call in history(rng, 25):
            left += [(image, {repr(seen(now))}) for image in recorder.images]
            recorder.images = []
            if isinstance(call, Rotate):
                sealer = sealer.replaced_by(rng.randbytes(32))
                disk.rotate(sealer)
            else:
                make(disk, call)
            after = now.after(call)
            left += [(image, {repr(seen(now)), repr(seen(after))}) for image in recorder.images]
            recorder.images, now = [], after
            recorder.keep()
        disk.close()
    no_sync(monkeypatch)
    assert len(left) > 100
    again = tmp_path / "again"
    again.mkdir()
    for number, (image, allowed) in enumerate(left):
        put(image, again)
        found = loaded(again, sealer)
        assert repr(found) in allowed, f"image {number}"
        # What was found is what goes on.
        disk = FileDisk(again, sealer, SEGMENT)
        disk.load()
        call = Save(None, (entry(rng, found.last + 1, 99),))
        make(disk, call)
        disk.close()
        assert loaded(again, sealer) == found.after(call), f"image {number}"


@pytest.mark.parametrize("seed", range(3))
def test_any_changed_bit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    no_sync(monkeypatch)
    rng = random.Random(seed)
    live, again = tmp_path / "live", tmp_path / "again"
    disk = FileDisk(live, Sealer(bytes(32)), SEGMENT)
    disk.load()
    for call in history(rng, 40):
        make(disk, call)
    disk.close()
    image = image_of(live)
    again.mkdir()
    for _ in range(400):
        name = rng.choice(sorted(image))
        data = bytearray(image[name])
        used = len(bytes(data).rstrip(b"\0"))
        data[rng.randrange(used)] ^= 1 << rng.randrange(8)
        put(image | {name: bytes(data)}, again)
        with pytest.raises(Damaged) as raised:
            loaded(again, Sealer(bytes(32)))
        assert str(again / name) in str(raised.value) or "one is missing" in str(raised.value)
        assert "restore a backup" in str(raised.value)
        assert image_of(again) == image | {name: bytes(data)}, "nothing is cut away from a damaged log"


class DiskMachine(RuleBasedStateMachine):
    """Any calls in any order, with and without a restart between."""

    folder: Path

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.sealer = Sealer(bytes(32))
        self.now = Model()
        self.path = Path(tempfile.mkdtemp(dir=self.folder))
        self.disk = FileDisk(self.path, self.sealer, SEGMENT)
        self.disk.load()

    @rule(count=st.integers(1, 8))
    def calls(self, count: int) -> None:
        for _ in range(count):
            call = next_call(self.rng, self.now)
            if isinstance(call, Rotate):
                self.rotate()
            else:
                make(self.disk, call)
            self.now = self.now.after(call)

    @rule()
    def rotate(self) -> None:
        self.sealer = self.sealer.replaced_by(self.rng.randbytes(32))
        self.disk.rotate(self.sealer)

    @rule()
    def reopen(self) -> None:
        self.disk.close()
        self.disk = FileDisk(self.path, self.sealer, SEGMENT)
        assert self.disk.load() == self.now.loaded()

    @invariant()
    def snapshot_is_there(self) -> None:
        if hasattr(self, "disk"):
            assert self.disk.snapshot() == self.now.snapshot

    def teardown(self) -> None:
        if hasattr(self, "disk"):
            self.reopen()
            self.disk.close()


def test_any_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_sync(monkeypatch)
    machine = type("Machine", (DiskMachine,), {"folder": tmp_path})
    machine.TestCase.settings = settings(
        max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
    )
    machine.TestCase("runTest").runTest()
