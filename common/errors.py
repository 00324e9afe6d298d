"""The one tree of errors that cross a seam: each class knows its gRPC code and its HTTP status.

Managers raise them, common/rpc.py carries them over gRPC, the agent's engine turns them into API answers. Messages
are Docker's own where Docker has one. Statuses: notes of the Engine API (400 invalid, 403 forbidden, 404, 409, 503
for everything about swarm membership). This module imports nothing, so that the CLI may use it too.
"""

from __future__ import annotations

from typing import ClassVar, Final

SWARM_LOCKED: Final = (
    "Swarm is encrypted and needs to be unlocked before it can be used. "
    'Please use "docker swarm unlock" to unlock it.'
)


class ShoalError(Exception):
    """Base: something that a user or a peer is told. `message` is the whole text they see."""

    code: ClassVar[str] = "Unknown"  # gRPC's name of the code, as Go prints it
    status: ClassVar[int] = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def described(self) -> str:
        """The text as Docker's API gives errors that came from a manager: with the code in front."""
        return f"rpc error: code = {self.code} desc = {self.message}"


class InvalidArgument(ShoalError):
    code = "InvalidArgument"
    status = 400


class FailedPrecondition(ShoalError):
    code = "FailedPrecondition"
    status = 400


class NotFound(ShoalError):
    code = "NotFound"
    status = 404

    def described(self) -> str:
        """Docker's daemon words this one itself: no code in front."""
        return self.message


class AlreadyExists(ShoalError):
    code = "AlreadyExists"
    status = 409


class Conflict(ShoalError):
    """The daemon's own conflicts: a name in use, a container that runs."""

    code = "Aborted"
    status = 409

    def described(self) -> str:
        """The daemon's own words: no code in front."""
        return self.message


class PermissionDenied(ShoalError):
    code = "PermissionDenied"
    status = 403


class Unauthenticated(ShoalError):
    code = "Unauthenticated"
    status = 401


class Unavailable(ShoalError):
    """Not part of a swarm, not a manager, locked: Docker answers 503 to all of them."""

    code = "Unavailable"
    status = 503

    def described(self) -> str:
        """That the swarm is locked, the daemon says itself: no code in front."""
        return self.message if self.message == SWARM_LOCKED else super().described()


class ClockSkew(Unavailable):
    """A server's certificate is not valid by this machine's clock; comes from a failed connection."""


class DeadlineExceeded(ShoalError):
    code = "DeadlineExceeded"
    status = 500


class Internal(ShoalError):
    code = "Internal"
    status = 500


class Unimplemented(ShoalError):
    code = "Unimplemented"
    status = 501


class OutOfSequence(ShoalError):
    """An update that was made from an old version of the object (Docker's text, gRPC code Unknown)."""

    def __init__(self) -> None:
        super().__init__("update out of sequence")


BY_CODE: dict[str, type[ShoalError]] = {
    c.code: c
    for c in (
        ShoalError, InvalidArgument, FailedPrecondition, NotFound, AlreadyExists, Conflict,
        PermissionDenied, Unauthenticated, Unavailable, DeadlineExceeded, Internal, Unimplemented,
    )
}  # fmt: skip
