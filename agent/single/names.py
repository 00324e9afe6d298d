"""Names of containers: each is given once on a node, also while its container is being made. For containers.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent.runtime.api import Runtime
from common import errors


class Names:
    """Those that are about to be given; the others the runtime knows."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._claimed: dict[str, str] = {}

    @asynccontextmanager
    async def given(self, name: str, container_id: str) -> AsyncIterator[None]:
        """Nobody else gets it within; errors.Conflict where another container has it."""
        if name in self._claimed:
            raise _taken(name, self._claimed[name])
        self._claimed[name] = container_id
        try:
            for other in await self._runtime.containers():
                if other.name == name:
                    raise _taken(name, other.id)
            yield
        finally:
            del self._claimed[name]


def _taken(name: str, container_id: str) -> errors.Conflict:
    return errors.Conflict(
        f'Conflict. The container name "/{name}" is already in use by container "{container_id}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
