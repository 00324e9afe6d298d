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

    async def begin(self, folder: Folder) -> None:
        """Starts the member whose state is in `folder`; raises when it cannot."""

    async def end(self) -> None:
        """Stops the member and waits until it is gone."""

    async def resume(self, folder: Folder) -> None:
        """The same at a start: what fails is reported as `failure` and, if it may pass, tried again."""
