"""What the daemon offers to whoever starts and stops the member that runs in it: local.py and promotion.py."""

from __future__ import annotations

from typing import Protocol

from manager.identity import Folder
from manager.member import Member


class Host(Protocol):
    """See the module's text."""

    @property
    def member(self) -> Member | None:
        """The running member."""

    @property
    def failure(self) -> str:
        """Why the member could not be started, if so."""

    @property
    def locked(self) -> bool:
        """Whether there is a member whose keys are locked, so that it cannot start."""

    @property
    def unlock_key(self) -> bytes:
        """What the running member's keys are locked by, or those of the last one."""

    async def begin(self, folder: Folder, unlock_key: bytes = b"") -> None:
        """Starts the member whose state is in `folder`; raises when it cannot, seal.Locked and WrongKey too. Without a
        key, with the one that is known."""

    async def end(self) -> None:
        """Stops the member and waits until it is gone."""

    async def resume(self, folder: Folder) -> None:
        """The same at a start: what fails is reported as `failure` and, if it may pass, tried again."""
