"""Tells the journal what happens to containers: what the runtime sees by itself, and what handlers do. app.py runs `watch`.

A container's networks are told of when it starts and ends, and when a handler has changed them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from agent.engine import container_networks
from agent.engine.backend import Backend
from agent.engine.happenings import CONTAINER, IMAGE, NETWORK, Happening
from agent.runtime.api import ContainerConfig, ContainerEvent, ContainerState, EventKind, Status
from agent.single.execs import Exec
from agent.single.record import HOST, NONE
from common import errors

log = logging.getLogger("engine")

_SECOND: Final = 1_000_000_000
_SEEN: Final = (
    EventKind.CREATE, EventKind.START, EventKind.KILL, EventKind.EXIT, EventKind.OOM, EventKind.REMOVE,
)  # fmt: skip
_RUNNING: Final = (Status.RUNNING, Status.PAUSED)
_DRIVERS: Final = {HOST: "host", NONE: "null"}


def around(backend: Backend, container: ContainerState) -> container_networks.Around:
    """What else there is to know of a container."""
    own = {network.id: network for network in backend.singles.networks.all()}
    return container_networks.Around(
        backend.swarm.state(),
        backend.singles.record(container.id),
        own,
        backend.host.info().id,
        container.status is Status.STOPPED and backend.singles.restarts.waits(container.id),
        tuple(backend.singles.linking.names_of(container.id)),
        tuple(backend.singles.linking.links_of(container.id)),
    )


async def watch(backend: Backend) -> None:
    """Until cancelled: what the runtime sees, and the ends of processes of exec."""
    backend.execs.ended = lambda ended: _exec_ended(backend, ended)
    async for event in backend.runtime.watch():
        try:
            if event.kind is EventKind.RESYNC:
                await _look(backend)
            elif event.kind in _SEEN:
                await _seen(backend, event)
        except errors.ShoalError as exc:
            log.warning("an event of container %s is not told: %s", event.id[:12], exc.message)


# ---- for handlers


def container(backend: Backend, known: ContainerState, action: str, **more: str) -> None:
    """Something was done to a container."""
    _tell(backend, known.id, known.name, known.image, known.labels, action, more)


def network(backend: Backend, action: str, network_id: str, name: str, driver: str, **more: str) -> None:
    """Something was done to a network, or to a container in one."""
    scope = "swarm" if driver == "overlay" and not more else "local"
    attributes = {**more, "name": name, "type": driver}
    backend.journal.tell(Happening(NETWORK, action, network_id, attributes, backend.now_ns(), scope))


def image(backend: Backend, action: str, image_id: str, name: str) -> None:
    """Something was done to an image."""
    backend.journal.tell(Happening(IMAGE, action, image_id, {"name": name}, backend.now_ns()))


def pruned(backend: Backend, kind: str) -> None:
    """What nobody used of a kind is gone."""
    backend.journal.tell(Happening(kind, "prune", "", {"reclaimed": "0"}, backend.now_ns()))


async def networks_changed(backend: Backend, container_id: str) -> None:
    """A running container has come into networks, or left some."""
    found = await backend.runtime.container(container_id)
    before = backend.journal.networks.get(container_id, {})
    now = _networks(backend, found) if found is not None and found.status in _RUNNING else {}
    for network_id in before.keys() - now.keys():
        _moved(backend, "disconnect", network_id, before[network_id], container_id)
    for network_id in now.keys() - before.keys():
        _moved(backend, "connect", network_id, now[network_id], container_id)
    backend.journal.networks[container_id] = now
    if not now:
        del backend.journal.networks[container_id]


# ---- what happens by itself


async def _exec_ended(backend: Backend, ended: Exec) -> None:
    found = await backend.runtime.container(ended.container_id)
    if found is not None:
        container(backend, found, "exec_die", execID=ended.id, exitCode=str(ended.exit_code or 0))


async def _look(backend: Backend) -> None:
    """What runs already has its networks without anybody being told."""
    for found in await backend.runtime.containers():
        if found.status in _RUNNING and found.id not in backend.journal.networks:
            backend.journal.networks[found.id] = _networks(backend, found)


async def _seen(backend: Backend, event: ContainerEvent) -> None:
    config = event.config or await _config(backend, event.id)
    if config is None:
        return
    if event.kind is EventKind.START:
        await networks_changed(backend, event.id)
    more = _attributes(event)
    _tell(backend, config.id, config.name, config.image, config.labels, str(event.kind), more, event.at)
    if event.kind in (EventKind.EXIT, EventKind.REMOVE):
        for network_id, name in backend.journal.networks.pop(event.id, {}).items():
            _moved(backend, "disconnect", network_id, name, event.id)


async def _config(backend: Backend, container_id: str) -> ContainerConfig | None:
    found = await backend.runtime.container(container_id)
    return found.config if found is not None else None


def _networks(backend: Backend, found: ContainerState) -> dict[str, str]:
    """Names by id."""
    shown = container_networks.networks(found, around(backend, found))
    return {item["NetworkID"]: name for name, item in shown.items() if item["NetworkID"]}


def _moved(backend: Backend, action: str, network_id: str, name: str, container_id: str) -> None:
    own = {known.name for known in backend.singles.networks.all()}
    driver = _DRIVERS.get(name) or ("bridge" if name in own else "overlay")
    network(backend, action, network_id, name, driver, container=container_id)


def _tell(
    backend: Backend, container_id: str, name: str, image_name: str, labels: Mapping[str, str], action: str,
    more: Mapping[str, str], at: int = 0,
) -> None:  # fmt: skip
    attributes = {**labels, **more, "image": image_name, "name": name.removeprefix("/")}
    backend.journal.tell(Happening(CONTAINER, action, container_id, attributes, at or backend.now_ns()))


def _attributes(event: ContainerEvent) -> dict[str, str]:
    if event.kind is EventKind.KILL:
        return {"signal": str(event.signal)}
    if event.kind is EventKind.EXIT and event.exit is not None:
        lived = max(0, event.exit.exited_at - event.started_at) // _SECOND if event.started_at else 0
        return {"execDuration": str(lived), "exitCode": str(event.exit.code)}
    return {}
