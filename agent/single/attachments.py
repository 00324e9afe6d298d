"""Places of single containers in networks of the swarm. Not built yet: every request is refused."""

from __future__ import annotations

from collections.abc import Iterable

from agent.single.record import SingleRecord
from common import errors


class Attachments:
    """agent/single/containers.py's Attachments."""

    def keep(self, records: Iterable[SingleRecord]) -> None:
        """Those that there are at the agent's start."""

    async def acquire(self, record: SingleRecord, name: str) -> str:
        raise errors.Unimplemented("networks of the swarm are not supported yet for single containers")

    async def started(self, attachment_id: str, pid: int) -> None:
        """The container runs."""

    def release(self, attachment_id: str) -> None:
        """The place isn't needed any more."""
