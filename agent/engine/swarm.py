"""/swarm: make, join, leave, show and change the swarm that this node belongs to. Routes for app.py."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from agent.engine import addresses
from agent.engine.backend import ALREADY_MEMBER, NOT_MEMBER, InitOptions, JoinOptions, LocalState
from agent.engine.http import Call, Fields, answer, empty, finish, routes
from common import apijson, errors, model

_DEFAULT_NAME: Final = "default"
_ROTATIONS: Final = ("rotateWorkerToken", "rotateManagerToken", "rotateManagerUnlockKey")


async def init(call: Call) -> web.StreamResponse:
    """POST /swarm/init: answers with the node's id as a JSON string."""
    fields = await call.fields("swarm.InitRequest")
    force = fields.flag("ForceNewCluster")
    if call.backend.swarm.membership().state is not LocalState.INACTIVE and not force:
        raise errors.Unavailable(ALREADY_MEMBER)
    local = await call.backend.host.addresses()
    listen = addresses.resolve_listen(fields.text("ListenAddr") or "0.0.0.0:2377", local)
    said = fields.text("AdvertiseAddr")
    advertise = ""  # a forced new cluster stays where it is unless it is told otherwise
    if said or not force:
        found = addresses.resolve_advertise(said, listen, local)
        addresses.require_own(found[0], local)
        advertise = addresses.join_port(*found)
    data_path = addresses.resolve_data_path(fields.text("DataPathAddr"), local)
    pool, size = fields.texts("DefaultAddrPool"), fields.number("SubnetSize")
    if pool:
        addresses.check_pool(pool, size)
    port = fields.number("DataPathPort")
    addresses.check_data_path_port(port)
    spec = apijson.decode(model.ClusterSpec, {} if fields.get("Spec") is None else fields.get("Spec"))
    _check_name(spec)
    options = InitOptions(
        listen_addr=addresses.join_port(*listen),
        advertise_addr=advertise,
        data_path_addr=data_path,
        data_path_port=port,
        force_new_cluster=force,
        spec=spec,
        default_address_pool=pool,
        subnet_size=size,
        availability=_availability(fields),
    )
    return answer(await finish(call.backend.swarm.init(options)))


def _check_name(spec: model.ClusterSpec) -> None:
    if spec.name not in ("", _DEFAULT_NAME):
        raise errors.InvalidArgument(f'swarm spec must be named "{_DEFAULT_NAME}"')


async def join(call: Call) -> web.StreamResponse:
    """POST /swarm/join."""
    fields = await call.fields("swarm.JoinRequest")
    if call.backend.swarm.membership().state is not LocalState.INACTIVE:
        raise errors.Unavailable(ALREADY_MEMBER)
    local = await call.backend.host.addresses()
    listen = addresses.resolve_listen(fields.text("ListenAddr") or "0.0.0.0:2377", local)
    said = fields.text("AdvertiseAddr")
    remotes = fields.texts("RemoteAddrs")
    if not remotes:
        raise errors.InvalidArgument("at least 1 RemoteAddr is required to join")
    options = JoinOptions(
        remote_addrs=tuple(_remote(text) for text in remotes),
        join_token=fields.text("JoinToken"),
        listen_addr=addresses.join_port(*listen),
        advertise_addr=addresses.join_port(*addresses.resolve_advertise(said, listen, local)) if said else "",
        data_path_addr=addresses.resolve_data_path(fields.text("DataPathAddr"), local),
        availability=_availability(fields),
    )
    await finish(call.backend.swarm.join(options))
    return empty()


def _remote(text: str) -> str:
    try:
        host, port = addresses.split_port(text, addresses.DEFAULT_PORT)
    except ValueError as exc:
        raise errors.InvalidArgument(f"invalid remote address {text}: {exc}") from exc
    if not host:
        raise errors.InvalidArgument(f"invalid remote address {text}")
    return addresses.join_port(host, port)


def _availability(fields: Fields) -> model.Availability:
    word = fields.text("Availability")
    if not word:
        return model.Availability.ACTIVE
    value = apijson.parse_word(model.Availability, word)
    if value is None:
        raise errors.InvalidArgument(f'invalid Availability: "{word}"')
    return model.Availability(value)


async def leave(call: Call) -> web.StreamResponse:
    """POST /swarm/leave?force."""
    if call.backend.swarm.membership().state is LocalState.INACTIVE:
        raise errors.Unavailable(NOT_MEMBER)
    await finish(call.backend.swarm.leave(call.flag("force")))
    return empty()


async def inspect(call: Call) -> web.StreamResponse:
    """GET /swarm: the cluster and its join tokens."""
    control = call.backend.swarm.control()
    cluster = (await call.ask(control.GetCluster, model.Nothing())).cluster
    tokens = apijson.encode(cluster.root_ca.join_tokens)
    return answer({**apijson.encode(cluster), "JoinTokens": tokens})


def _rotation(call: Call, name: str) -> bool:
    """Whether something is to be turned; Docker says no more of a word that is no boolean."""
    try:
        return call.boolean(name)
    except errors.InvalidArgument as exc:
        raise errors.InvalidArgument(f"invalid value for {name}: {call.text(name)}") from exc


async def update(call: Call) -> web.StreamResponse:
    """POST /swarm/update?version&rotateWorkerToken&rotateManagerToken&rotateManagerUnlockKey."""
    control = call.backend.swarm.control()
    spec = apijson.decode(model.ClusterSpec, await call.json())
    rotations = {name: _rotation(call, name) for name in _ROTATIONS}
    _check_name(spec)
    request = model.UpdateClusterRequest(
        version=call.object_version("swarm"),
        spec=spec,
        rotate_worker_token=rotations["rotateWorkerToken"],
        rotate_manager_token=rotations["rotateManagerToken"],
        rotate_unlock_key=rotations["rotateManagerUnlockKey"],
    )
    await call.ask(control.UpdateCluster, request)
    return empty()


async def unlock_key(call: Call) -> web.StreamResponse:
    """GET /swarm/unlockkey."""
    control = call.backend.swarm.control()
    return answer({"UnlockKey": (await call.ask(control.GetCluster, model.Nothing())).unlock_key})


async def unlock(call: Call) -> web.StreamResponse:
    """POST /swarm/unlock."""
    fields = await call.fields("swarm.UnlockRequest")
    if call.backend.swarm.membership().state is LocalState.INACTIVE:
        raise errors.Unavailable(NOT_MEMBER)
    await finish(call.backend.swarm.unlock(fields.text("UnlockKey")))
    return empty()


ROUTES: Final = routes({
    "POST /swarm/init": init,
    "POST /swarm/join": join,
    "POST /swarm/leave": leave,
    "GET /swarm": inspect,
    "POST /swarm/update": update,
    "GET /swarm/unlockkey": unlock_key,
    "POST /swarm/unlock": unlock,
})  # fmt: skip
