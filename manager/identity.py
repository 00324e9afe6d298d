"""A manager's own files: what makes this machine a member of a swarm, written whole or not at all.

state/manager.json  node and cluster, where it listens and what it advertises
state/manager.crt   its certificate, leaf first, root last
state/manager.key   its private key
state/seal.key      the key of everything in state/raft
state/raft/         log and snapshots

Used by local.py (init, leave) and member.py.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from common import pki
from manager.raft.files import read_private, sync_directory, write_atomically
from manager.raft.seal import Damaged

_STATE: Final = "state"
_NEW: Final = "state.new"
_GONE: Final = "state.gone"


@dataclass(frozen=True, slots=True)
class Membership:
    """What is known without opening the log."""

    node_id: str
    cluster_id: str
    listen_addr: str
    advertise_addr: str


@dataclass(frozen=True, slots=True)
class Folder:
    """Paths in a state folder."""

    path: Path

    @property
    def membership(self) -> Path:
        """What makes the folder complete: it is read first."""
        return self.path / "manager.json"

    @property
    def certificate(self) -> Path:
        """The manager's certificate chain."""
        return self.path / "manager.crt"

    @property
    def key(self) -> Path:
        """The manager's private key."""
        return self.path / "manager.key"

    @property
    def seal(self) -> Path:
        """The key of log and snapshots."""
        return self.path / "seal.key"

    @property
    def raft(self) -> Path:
        """Log and snapshots."""
        return self.path / "raft"

    def write(self, membership: Membership, chain: bytes, key: pki.Key) -> None:
        """Puts all but the raft state there."""
        self.write_certificate(chain, key)
        write_atomically(self.membership, json.dumps(asdict(membership), indent=1).encode() + b"\n")

    def write_certificate(self, chain: bytes, key: pki.Key) -> None:
        """Replaces key and certificate. The key goes first: `load` finds out when the certificate did not follow."""
        write_atomically(self.key, pki.key_pem(key))
        write_atomically(self.certificate, chain)

    def load(self) -> tuple[Membership, bytes, bytes]:
        """Membership, key and certificate chain; raises Damaged or OSError."""
        try:
            membership = Membership(**json.loads(self.membership.read_text()))
        except (ValueError, TypeError) as exc:
            raise Damaged(f"{self.membership} cannot be read: {exc}") from exc
        return membership, read_private(self.key), self.certificate.read_bytes()


def current(root: Path) -> Folder | None:
    """The state of the swarm that this machine manages, if any; clears away what a crash left half-made."""
    for leftover in (_NEW, _GONE):
        shutil.rmtree(root / leftover, ignore_errors=True)
    folder = Folder(root / _STATE)
    return folder if folder.path.exists() else None


def begin(root: Path) -> Folder:
    """An empty folder to make a new member in."""
    shutil.rmtree(root / _NEW, ignore_errors=True)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = Folder(root / _NEW)
    folder.path.mkdir(mode=0o700)
    return folder


def finish(root: Path) -> Folder:
    """Makes what was begun the current state."""
    (root / _NEW).rename(root / _STATE)
    sync_directory(root)
    return Folder(root / _STATE)


def erase(root: Path) -> None:
    """Forgets everything: at once for a reader, then from the disk."""
    if (root / _STATE).exists():
        (root / _STATE).rename(root / _GONE)
        sync_directory(root)
    for leftover in (_NEW, _GONE):
        shutil.rmtree(root / leftover, ignore_errors=True)
