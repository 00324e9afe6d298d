"""What happens to containers, told to everyone who watches. Called by the runtime's parts; read by worker and engine.

Starts and exits are told by the code that sees them for certain (each running container has its own pending wait);
containerd's event stream adds what only it knows: kills for want of memory.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from grpc import aio

from agent.runtime import client as c
from agent.runtime.api import ContainerEvent, EventKind
from common.pb import containerd_pb2 as pb

if TYPE_CHECKING:
    from common.clock import Clock

log = logging.getLogger("runtime")

_QUEUE = 10_000


class Events:
    """Every watcher has a queue of its own; one that doesn't read is told to list again."""

    def __init__(self, clock: "Clock") -> None:
        self._clock = clock
        self._queues: set[asyncio.Queue[ContainerEvent]] = set()

    def publish(self, event: ContainerEvent) -> None:
        for queue in self._queues:
            if queue.qsize() >= _QUEUE:
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(self._resync())
            queue.put_nowait(event)

    async def watch(self) -> AsyncIterator[ContainerEvent]:
        queue: asyncio.Queue[ContainerEvent] = asyncio.Queue()
        queue.put_nowait(self._resync())
        self._queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)

    async def follow_containerd(self, containerd: c.Containerd) -> None:
        """Runs for ever: the kernel's kills for want of memory, and a RESYNC after each break of the stream."""
        wanted = c.filters([f'namespace=={containerd.namespace},topic=="/tasks/oom"'])
        while True:
            try:
                with c.drops_told():
                    async for envelope in containerd.server_stream(c.EVENTS_SUBSCRIBE, wanted):
                        event = pb.TaskEvent.FromString(envelope.event.value)
                        at = envelope.timestamp.ToNanoseconds()
                        self.publish(ContainerEvent(EventKind.OOM, event.container_id, at))
            except aio.AioRpcError as error:
                log.info("containerd's events ended (%s); subscribing again", error.code().name)
            await asyncio.sleep(0.1)
            await containerd.call(c.VERSION, c.Empty(), timeout=None)
            self.publish(self._resync())

    def _resync(self) -> ContainerEvent:
        return ContainerEvent(EventKind.RESYNC, "", self._clock.now_ns())
