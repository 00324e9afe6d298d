"""A manager's own files: what makes this machine a member of a swarm, written whole or not at all.

state/manager.json  node and cluster, where it listens and what it advertises
state/manager.crt   its certificate, leaf first, root last
state/manager.key   its private key
state/seal.key      the key of everything in state/raft
state/raft/         log and snapshots; `swarm init --force-new-cluster` makes raft.1 of it, then raft.2, ...

Used by local.py (init, join, leave), rescue.py and member.py.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from common import model
from manager.raft.files import read_private, sync_directory, write_atomically
from manager.raft.seal import Damaged

_STATE: Final = "state"
_NEW: Final = "state.new"
_GONE: Final = "state.gone"
_BEFORE: Final = "state.before"
_RAFT: Final = "raft"


@dataclass(frozen=True, slots=True)
class Membership:
    """What is known without opening the log."""

    node_id: str
    cluster_id: str
    listen_addr: str
    advertise_addr: str
    raft_id: int = 1
    peers: tuple[model.RaftMember, ...] = ()  # who was there when it joined; what the log says counts more
    raft: str = _RAFT  # the folder of log and snapshots

    @classmethod
    def from_json(cls, text: str) -> Membership:
        """The opposite of `to_json`; raises ValueError or TypeError."""
        values: dict[str, Any] = json.loads(text)
        peers = tuple(model.RaftMember(**peer) for peer in values.pop("peers", ()))
        made = cls(**values, peers=peers)
        if Path(made.raft).name != made.raft:
            raise ValueError(f"{made.raft} is no name of a folder")
        return made

    def to_json(self) -> bytes:
        """As it stands in its file."""
        return json.dumps(asdict(self), indent=1).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Folder:
    """Paths in a state folder."""

    path: Path
    raft_name: str = _RAFT

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
        return self.path / self.raft_name

    def write(self, membership: Membership, chain: bytes, key: bytes) -> None:
        """Puts all but the raft state there."""
        self.write_certificate(chain, key)
        self.write_membership(membership)

    def write_membership(self, membership: Membership) -> Folder:
        """Replaces what the manager knows of itself; answers with the folder as it is then."""
        write_atomically(self.membership, membership.to_json())
        return Folder(self.path, membership.raft)

    def write_certificate(self, chain: bytes, key: bytes) -> None:
        """Replaces key (PEM, or as keeper.py seals it) and certificate. The key goes first: `load` finds out when the
        certificate did not follow."""
        write_atomically(self.key, key)
        write_atomically(self.certificate, chain)

    def load(self) -> tuple[Membership, bytes, bytes]:
        """Membership, key as it was written, and certificate chain; raises Damaged or OSError."""
        try:
            membership = Membership.from_json(self.membership.read_text())
        except (ValueError, TypeError, AttributeError) as exc:
            raise Damaged(f"{self.membership} cannot be read: {exc}") from exc
        return membership, read_private(self.key), self.certificate.read_bytes()

    def next_raft(self) -> str:
        """A name for a new folder of log and snapshots."""
        _, _, number = self.raft_name.partition(".")
        return f"{_RAFT}.{int(number or 0) + 1}"

    def clear_others(self) -> None:
        """Removes folders of log and snapshots that do not count: begun and not finished, or replaced."""
        for other in self.path.glob(f"{_RAFT}*"):
            if other.name != self.raft_name:
                shutil.rmtree(other, ignore_errors=True)


def current(root: Path) -> Folder | None:
    """The state of the swarm that this machine manages, if any; clears away what a crash left half-made."""
    if (root / _BEFORE).exists() and not (root / _STATE).exists():
        (root / _BEFORE).rename(root / _STATE)
    for leftover in (_NEW, _GONE, _BEFORE):
        shutil.rmtree(root / leftover, ignore_errors=True)
    folder = Folder(root / _STATE)
    if not folder.path.exists():
        return None
    with suppress(OSError, Damaged):  # `load` says so to somebody who can act on it
        folder = Folder(folder.path, folder.load()[0].raft)
        folder.clear_others()
    return folder


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


def exchange(root: Path) -> Folder:
    """Makes what was begun the current state in the place of another one, if there is one; `keep` or `put_back` ends
    it. A crash between the two renames leaves the state that was there before."""
    if (root / _STATE).exists():
        (root / _STATE).rename(root / _BEFORE)
    return finish(root)


def keep(root: Path) -> None:
    """The new state stays."""
    shutil.rmtree(root / _BEFORE, ignore_errors=True)


def put_back(root: Path) -> Folder | None:
    """The state before `begin` and `exchange`, wherever they were stopped; None where there was none."""
    if (root / _BEFORE).exists():
        if (root / _STATE).exists():
            (root / _STATE).rename(root / _GONE)
        (root / _BEFORE).rename(root / _STATE)
        sync_directory(root)
    return current(root)


def erase(root: Path) -> None:
    """Forgets everything: at once for a reader, then from the disk."""
    if (root / _STATE).exists():
        (root / _STATE).rename(root / _GONE)
        sync_directory(root)
    for leftover in (_NEW, _GONE):
        shutil.rmtree(root / leftover, ignore_errors=True)
