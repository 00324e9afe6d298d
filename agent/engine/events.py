"""/events: for now a stream without events, which clients may open and close. Routes for app.py."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from agent.engine.http import Call, routes, stream
from common import errors


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError as exc:
        raise errors.InvalidArgument(f"invalid value for until: {text}") from exc


async def events(call: Call) -> web.StreamResponse:
    """GET /events?until: headers at once; ends at `until`, or when the client goes (that cancels this)."""
    until = call.text("until")
    left = _seconds(until) - call.backend.now_ns() / 1e9 if until else None
    response = await stream(call)
    closing = asyncio.get_running_loop().create_future()
    if left is None or left > 0:
        await asyncio.wait({closing}, timeout=left)
    closing.cancel()
    await response.write_eof()
    return response


ROUTES: Final = routes({"GET /events": events})
