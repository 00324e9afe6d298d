"""/containers/{id}/top: what runs in a container, as the node's ps(1) says it. Route for app.py."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Collection, Sequence
from typing import Any, Final

from aiohttp import web

from agent.engine import telling
from agent.engine.containers import find
from agent.engine.http import Call, answer, routes
from agent.runtime.api import Status
from common import errors

_ARGUMENTS: Final = "-ef"
_PATIENCE: Final = 10.0  # seconds


async def top(call: Call) -> web.StreamResponse:
    """GET /containers/{id}/top?ps_args: in containers of tasks, too."""
    container = await find(call, call.names["id"])
    if call.backend.singles.restarts.waits(container.id):
        raise errors.Conflict(f"Container {container.id} is restarting, wait until the container is running")
    if container.status not in (Status.RUNNING, Status.PAUSED):
        raise errors.Conflict(f"Container {container.id} is not running")
    pids = await call.backend.runtime.processes(container.id)
    try:
        arguments = shlex.split(call.text("ps_args") or _ARGUMENTS)
    except ValueError as exc:
        raise errors.InvalidArgument(f"bad arguments of ps: {exc}") from exc
    shown = table(await _ps(arguments), pids)
    telling.container(call.backend, container, "top")
    return answer(shown)


async def _ps(arguments: Sequence[str]) -> str:
    try:
        running = await asyncio.create_subprocess_exec(
            "ps", *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except FileNotFoundError as exc:
        raise errors.ShoalError("this machine has no ps (package procps)") from exc
    try:
        async with asyncio.timeout(_PATIENCE):
            output, said = await running.communicate()
    except TimeoutError as exc:
        raise errors.ShoalError("ps does not end") from exc
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    if running.returncode:
        lines = said.decode(errors="replace").splitlines() or ["it failed"]
        raise errors.ShoalError(f"ps: {lines[0]}")
    return output.decode(errors="replace")


def table(text: str, pids: Collection[int]) -> dict[str, Any]:
    """The lines of a container's processes, in columns; the last one takes what is left of a line."""
    head, *lines = text.splitlines() or [""]
    titles = head.split()
    if "PID" not in titles:
        raise errors.InvalidArgument("Couldn't find PID field in ps output")
    at, width = titles.index("PID"), len(titles) - 1
    rows = [line.split(None, width) for line in lines]
    wanted = {str(pid) for pid in pids}
    return {"Titles": titles, "Processes": [row for row in rows if len(row) > at and row[at] in wanted]}


ROUTES: Final = routes({"GET /containers/{id:path}/top": top})
