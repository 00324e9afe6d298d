"""Published ports of services: numbers for those that ask for any, conflicts of those that ask for one. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from common import model
from manager import lifecycle
from manager.allocator.subnets import AllocationError
from manager.store.view import ReadView

DYNAMIC: Final = range(30000, 32768)
_Port = tuple[model.PortProtocol, int]


def protocol(port: model.PortConfig) -> model.PortProtocol:
    """TCP unless said otherwise."""
    return port.protocol or model.PortProtocol.TCP


def in_use(view: ReadView, ignoring: str = "") -> dict[_Port, model.Service]:
    """Ports of the routing mesh, and the service that has each. One that is being removed has none any more."""
    used: dict[_Port, model.Service] = {}
    for service in view.services.all():
        if service.pending_delete or service.id == ignoring:
            continue
        for port in (*service.endpoint.ports, *lifecycle.spec_ports(service.spec)):
            if port.publish_mode != model.PublishMode.HOST and port.published_port:
                used.setdefault((protocol(port), port.published_port), service)
    return used


def assign(view: ReadView, service: model.Service) -> tuple[model.PortConfig, ...]:
    """The service's ports with their numbers; keeps what it has. Raises AllocationError."""
    asked = lifecycle.spec_ports(service.spec)
    if not lifecycle.ingress_ports(asked):
        return asked
    used = in_use(view, ignoring=service.id)
    had = {_identity(p): p.published_port for p in service.endpoint.ports}
    fixed = {(protocol(p), p.published_port) for p in lifecycle.ingress_ports(asked) if p.published_port}
    given: list[model.PortConfig] = []
    for port in asked:
        if port.publish_mode == model.PublishMode.HOST:
            given.append(port)
            continue
        if port.published_port:
            if (other := used.get((protocol(port), port.published_port))) is not None:
                raise AllocationError(
                    f"port '{port.published_port}' is already in use by service '{other.spec.name}' "
                    f"({other.id}) as an ingress port"
                )
            given.append(port)
            continue
        kept = had.get(_identity(port), 0)
        free = (
            n
            for n in _candidates(kept)
            if (protocol(port), n) not in used and (protocol(port), n) not in fixed
        )
        number = next(free, 0)
        if not number:
            raise AllocationError("no dynamic port is left for the routing mesh")
        fixed.add((protocol(port), number))
        given.append(replace(port, published_port=number))
    return tuple(given)


def _identity(port: model.PortConfig) -> tuple[str, model.PortProtocol, int]:
    return port.name, protocol(port), port.target_port


def _candidates(kept: int) -> Iterator[int]:
    if kept in DYNAMIC:
        yield kept
    yield from DYNAMIC
