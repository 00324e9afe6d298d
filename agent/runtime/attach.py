"""A client's hold on the standard streams of a container's own process: `docker attach`, `docker run` without -d.

Made by the runtime's facade. Output begins with the moment of attaching, which may lie before the container's start.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from agent.runtime.api import LogStream
from agent.runtime.fifo import Stdin
from agent.runtime.tail import Tail
from common import errors


class Attachment:
    """agent/runtime/api.py's Attached."""

    def __init__(
        self, tail: Tail, stdin: Stdin | None, runs: asyncio.Event, end_input: Callable[[], Awaitable[None]],
        gone: Callable[[Tail], None],
    ) -> None:  # fmt: skip
        self._tail = tail
        self._stdin = stdin
        self._runs = runs
        self._end_input = end_input
        self._gone = gone

    def output(self) -> AsyncIterator[tuple[LogStream, bytes]]:
        return self._tail.read()

    async def write(self, data: bytes) -> None:
        if self._stdin is None:
            raise errors.InvalidArgument("the container has no standard input")
        await self._stdin.write(data)

    async def close_stdin(self) -> None:
        """The process sees the end of its input, once it has read what was written."""
        await self._runs.wait()  # before that, nobody but this end keeps what was written
        if self._stdin is not None and self._stdin.open:
            self._stdin.close()
            await self._end_input()

    def close(self) -> None:
        """Lets go; the process and its input stay."""
        if self._stdin is not None:
            self._stdin.close()
        self._gone(self._tail)
