"""One machine's network in a process of its own: reads commands as JSON lines, drives agent/network, answers likewise.

tests/lab/netlab.py starts it inside a network namespace that stands for the machine.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import sys
from pathlib import Path
from typing import Any

from agent.network.manager import KernelNetwork
from agent.state import NodeState
from common import errors, model


class Host:
    """The commands; the resolver's sockets are only held."""

    def __init__(self, folder: Path, node_id: str) -> None:
        self._state = NodeState(node_id=node_id)
        self._sockets: dict[str, tuple[socket.socket, socket.socket]] = {}
        self._network = KernelNetwork(folder, self._opened, self._closed)

    def _opened(self, task: str, udp: socket.socket, tcp: socket.socket) -> None:
        self._sockets[task] = (udp, tcp)

    def _closed(self, task: str) -> None:
        for opened in self._sockets.pop(task):
            opened.close()

    async def do(self, command: dict[str, Any]) -> Any:
        network = self._network
        match command["do"]:
            case "start":
                await network.start()
            case "apply":
                message = model.Assignments.from_bytes(base64.b64decode(command["assignments"]))
                self._state = self._state.with_changes(message.changes, message.fence, "x", complete=True)
                await network.apply(self._state)
            case "attach":
                sandbox = await network.attach(command["task"])
                return [sandbox.netns_path, list(sandbox.addresses), sandbox.gateway_address]
            case "detach":
                await network.detach(command["task"])
            case "teardown":
                await network.teardown()
            case "reconcile":
                await network.reconcile()
            case "changes":
                return network.changes
            case "routes":
                return await network.routes()
            case "resolvers":
                return sorted(self._sockets)
            case "close":
                await network.close()
        return None


async def main() -> None:
    """Until standard input ends."""
    host = Host(Path(sys.argv[1]), sys.argv[2])
    reader = asyncio.StreamReader(limit=2**24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        try:
            answer: dict[str, Any] = {"ok": await host.do(json.loads(line))}
        except errors.ShoalError as error:
            answer = {"error": error.message}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
