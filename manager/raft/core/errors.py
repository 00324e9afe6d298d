"""What the core refuses, and what it can't go on from. The runner above it translates what leaves the manager."""

from __future__ import annotations


class RaftError(Exception):
    """Root of this package's errors."""


class ProposalDropped(RaftError):
    """Not appended and not passed on: no leader, a transfer under way, or too much is uncommitted. Try again."""


class StepLocal(RaftError):
    """A message that a member only says to itself came from outside."""


class StepPeerNotFound(RaftError):
    """A response came from somebody who isn't a member."""


class Malformed(RaftError):
    """Bytes that aren't what they should be."""


class ConfChangeRefused(RaftError):
    """A change that would make a membership that can't be."""


class Inconsistent(RaftError):
    """The state contradicts itself: a lost or damaged log, or a storage that broke its promises. The member must stop."""


class StorageError(RaftError):
    """Root of what a storage may answer."""


class Compacted(StorageError):
    """Asked for entries that are only in the snapshot any more."""


class Unavailable(StorageError):
    """Asked for entries that aren't there."""


class SnapshotOutOfDate(StorageError):
    """A newer snapshot is there already."""


class SnapshotTemporarilyUnavailable(StorageError):
    """There is no snapshot to send yet; it will be asked for again."""
