"""/swarm/backup and /swarm/restore: not Docker's, for there the swarm's backup is a tar of a stopped daemon's folder. Routes for app.py.

The passphrase comes in a header, in base64, and stands in no address and no log.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from aiohttp import web

from agent.engine import addresses
from agent.engine.backend import LocalState, RestoreOptions
from agent.engine.http import Call, answer, finish, routes, stream
from common import apijson, errors

PASSPHRASE: Final = "X-Backup-Passphrase"
OCTETS: Final = "application/octet-stream"
_LARGEST: Final = 1 << 30
ALREADY: Final = (
    'This node is already part of a swarm. Use "shoal swarm leave" to leave this swarm, or --force to replace '
    "its state by the backup."
)


def _passphrase(call: Call) -> str:
    try:
        return base64.b64decode(call.request.headers.get(PASSPHRASE, ""), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise errors.InvalidArgument(f"invalid {PASSPHRASE} header: {exc}") from exc


async def backup(call: Call) -> web.StreamResponse:
    """GET /swarm/backup: the file as bytes; an error before the first of them is an answer like any other."""
    pieces = call.backend.swarm.backup(_passphrase(call))
    first = await anext(pieces, b"")
    response = await stream(call, OCTETS)
    await response.write(first)
    async for piece in pieces:
        await response.write(piece)
    await response.write_eof()
    return response


async def restore(call: Call) -> web.StreamResponse:
    """POST /swarm/restore?listenAddr&advertiseAddr&dataPathAddr&force, the file as body."""
    force = call.flag("force")
    if call.backend.swarm.membership().state is not LocalState.INACTIVE and not force:
        raise errors.Unavailable(ALREADY)
    local = await call.backend.host.addresses()
    listen = addresses.resolve_listen(call.text("listenAddr") or "0.0.0.0:2377", local)
    advertise = addresses.resolve_advertise(call.text("advertiseAddr"), listen, local)
    addresses.require_own(advertise[0], local)
    options = RestoreOptions(
        listen_addr=addresses.join_port(*listen),
        advertise_addr=addresses.join_port(*advertise),
        data_path_addr=addresses.resolve_data_path(call.text("dataPathAddr"), local),
        passphrase=_passphrase(call),
        force=force,
    )
    reply = await finish(call.backend.swarm.restore(options, await _body(call)))
    return answer({
        "NodeID": reply.node_id,
        "ClusterID": reply.cluster_id,
        "Created": apijson.format_time(reply.created),
        "KnownNode": reply.known_node,
        "KnownAddr": reply.known_addr,
        "AdvertiseAddr": reply.advertise_addr,
        "FormerManagers": list(reply.managers),
        "OtherNodes": reply.workers,
    })  # fmt: skip


async def _body(call: Call) -> bytes:
    data = bytearray()
    async for piece in call.pieces():
        data += piece
        if len(data) > _LARGEST:
            raise errors.InvalidArgument(f"a backup of more than {_LARGEST} bytes cannot be restored")
    return bytes(data)


ROUTES: Final = routes({
    "GET /swarm/backup": backup,
    "POST /swarm/restore": restore,
})  # fmt: skip
