"""Records what a power cut could leave of a folder at every step of writing to it.

The files' writers go through `os` and `Path`; `Recorder` stands in for those calls and keeps an image of the folder
before each of them, and of every way in which an unsynced write may be torn.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Image = dict[str, bytes]


def image_of(folder: Path) -> Image:
    """All files below `folder`."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def put(image: Image, folder: Path) -> Path:
    """Makes `folder` hold `image` and nothing else."""
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        path.unlink()
    for name, data in image.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o600)
    return folder


class Recorder:
    """While it is `on`, `images` grows by what a crash could leave."""

    def __init__(self, folder: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._rng = rng
        self.images: list[Image] = []
        self._pwrite = os.pwrite
        monkeypatch.setattr(os, "pwrite", self._torn)
        for holder, name in (
            (os, "fsync"),
            (os, "fdatasync"),
            (os, "posix_fallocate"),
            (Path, "rename"),
            (Path, "unlink"),
        ):
            monkeypatch.setattr(holder, name, self._before(getattr(holder, name)))

    def _before(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.keep()
            return real(*args, **kwargs)

        return call

    def keep(self) -> None:
        """Keeps the folder as it is, unless that is what was kept last."""
        image = image_of(self._folder)
        if not self.images or self.images[-1] != image:
            self.images.append(image)

    def _torn(self, fd: int, data: bytes, offset: int) -> int:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        before, whole = image_of(self._folder), bytes(data)
        done = self._pwrite(fd, data, offset)
        if path.suffix == ".log":
            name = str(path.relative_to(self._folder))
            for piece in self._pieces(before[name], whole, offset):
                self.images.append(before | {name: piece})
        return done

    def _pieces(self, old: bytes, data: bytes, offset: int) -> list[bytes]:
        """Every beginning of the write by words, and mixes of old and new sectors."""
        new = old[:offset] + data + old[offset + len(data) :]
        found = [new[:end] + old[end:] for end in range(offset, offset + len(data), 8)]
        if len(found) > 24:
            found = [*found[:8], *self._rng.sample(found[8:-8], 8), *found[-8:]]
        for size in (8, 64, 512):
            mixed = bytearray(new)
            for start in range(offset // size * size, offset + len(data), size):
                if self._rng.random() < 0.5:
                    mixed[start : start + size] = old[start : start + size]
            found.append(bytes(mixed))
        return found
