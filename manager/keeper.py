"""This manager's keys on the disk are kept as the swarm wants them: locked by its unlock key, or not.

Every manager follows the cluster object (`Keeper`, one per member), also one that was off meanwhile and came back with an
older unlock key. Whoever read the files under an older lock must learn nothing later: with a lock the data key changes
too, and all is sealed anew. The private key of the certificate is sealed by the data key while there is a lock.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag

from common import model
from manager.identity import Folder
from manager.raft.files import read_private, write_atomically
from manager.raft.seal import Damaged, Keys, Sealer
from manager.store.store import Store

log = logging.getLogger("keeper")

RETRY: Final = 30.0
_SEALED: Final = b"SHOAL-SEALED-1\n"
_CONTEXT: Final = b"private key"


def private(pem: bytes, keys: Keys) -> bytes:
    """What the private key's file is to hold."""
    if not keys.unlock_key:
        return pem
    return _SEALED + base64.b64encode(keys.sealer().seal(pem, _CONTEXT)) + b"\n"


def open_private(stored: bytes, sealer: Sealer, folder: Folder) -> bytes:
    """The private key (PEM) in what the folder's key file holds; raises Damaged."""
    if not stored.startswith(_SEALED):
        return stored
    try:
        return sealer.open(base64.b64decode(stored[len(_SEALED) :]), _CONTEXT)
    except (InvalidTag, binascii.Error) as exc:
        raise Damaged(f"{folder.key} is damaged: bring the file back from a backup") from exc


class Keeper:
    """A member's keys. `run` follows the cluster; `private` is how the private key is to be written."""

    def __init__(self, folder: Folder, keys: Keys, store: Store, rotate: Callable[[Sealer], None]) -> None:
        self._folder = folder
        self._keys = keys
        self._store = store
        self._rotate = rotate

    @property
    def generation(self) -> int:
        """Of the unlock key that the files are locked by."""
        return self._keys.generation

    @property
    def unlock_key(self) -> bytes:
        """What the files are locked by; empty without a lock."""
        return self._keys.unlock_key

    def private(self, pem: bytes) -> bytes:
        """What the private key's file is to hold."""
        return private(pem, self._keys)

    async def run(self) -> None:
        """Locks the files anew whenever the swarm's unlock key changes, and ends what a crash cut off."""
        due = True
        with self._store.watch() as watch:
            while True:
                # An older generation is of a store that has not caught up yet.
                if self._store.view().cluster.unlock_generation > self._keys.generation:
                    due = True
                if due and not await self._tried():
                    await asyncio.sleep(RETRY)
                    continue
                due = False
                await watch.next()

    async def _tried(self) -> bool:
        try:
            await self._follow(self._store.view().cluster)
        except (OSError, Damaged) as exc:
            log.error(
                "the key files cannot be locked as the swarm wants it, next try in %d s: %s", RETRY, exc
            )
            return False
        return True

    async def _follow(self, cluster: model.Cluster) -> None:
        """Each step may be the last one before a crash: the next start goes on from what it finds."""
        key, generation = cluster.unlock_key, cluster.unlock_generation
        if generation > self._keys.generation:
            locked = self._keys.locked_by(key, generation)
            await self._save(locked.with_new_key() if key else locked)
            log.info(
                "this manager's keys are %s now", "locked by the swarm's unlock key" if key else "not locked"
            )
        if self._keys.rotating:
            sealer = self._keys.sealer()
            await _whole(lambda: self._rotate(sealer))
        self._write_private()
        if self._keys.rotating:
            await self._save(self._keys.without_old_keys())

    async def _save(self, keys: Keys) -> None:
        def save() -> None:
            keys.save(self._folder.seal)
            self._keys = (
                keys  # here: whoever cancels this meanwhile must still find the key that the file has now
            )

        await _whole(save)

    def _write_private(self) -> None:
        """Seals the private key by the newest data key, or opens it. Not in a thread: renewal writes the file too."""
        stored = read_private(self._folder.key)
        sealer = self._keys.sealer()
        if stored.startswith(_SEALED) != bool(self._keys.unlock_key) or self._keys.rotating:
            write_atomically(self._folder.key, self.private(open_private(stored, sealer, self._folder)))


async def _whole(call: Callable[[], None]) -> None:
    """Makes a call in a thread; one that is cancelled still ends before this returns."""
    working = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise
