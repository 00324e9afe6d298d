"""/events: what happens on this node, as it happens, and the newest of what has. Routes for app.py."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from agent.engine import filters
from agent.engine.happenings import Happening, meets
from agent.engine.http import Call, routes, stream
from agent.engine.journal import Listener
from agent.engine.moments import timestamp
from common import apijson, errors

_SECOND: Final = 1_000_000_000


async def events(call: Call) -> web.StreamResponse:
    """GET /events?since&until&filters: headers at once; ends at `until`, or when the client goes (that cancels this)."""
    since, until = timestamp(call.text("since")), timestamp(call.text("until"))
    if since and until and until < since:
        raise errors.InvalidArgument(
            f"`since` time ({call.text('since')}) cannot be after `until` time ({call.text('until')})"
        )
    wanted = filters.parse(call.text("filters"), None)  # what it doesn't know Docker passes over here
    listener = call.backend.journal.listen()
    try:
        response = await stream(call)
        for past in listener.before if since or until else ():
            if past.at >= since and (not until or past.at <= until):
                await _tell(response, past, wanted)
        ends = _end(until, call.backend.now_ns())
        while (happening := await _next(listener, ends)) is not None:
            await _tell(response, happening, wanted)
    finally:
        listener.close()
    await response.write_eof()
    return response


def _end(until: int, now: int) -> float | None:
    """By the loop's clock."""
    return asyncio.get_running_loop().time() + (until - now) / _SECOND if until else None


async def _next(listener: Listener, ends: float | None) -> Happening | None:
    """None when there is to be no more."""
    try:
        async with asyncio.timeout_at(ends):
            return await listener.next()
    except TimeoutError:
        return None


async def _tell(response: web.StreamResponse, happening: Happening, wanted: filters.Filters) -> None:
    if meets(happening, wanted):
        await response.write(apijson.dump_json(happening.shown()) + b"\n")


ROUTES: Final = routes({"GET /events": events})
