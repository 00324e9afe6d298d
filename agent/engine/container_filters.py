"""The filters of `docker ps`, checked and applied. Pure; for containers.py. What the words mean is as in Docker."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.engine import container_networks, filters
from agent.engine import container_shapes as shapes
from agent.runtime.api import ContainerState, Status
from agent.runtime.image import ImageInfo
from common import errors

KNOWN: Final = (
    "ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network",
    "publish", "since", "status", "volume",
)  # fmt: skip
_STATES: Final = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
_HEALTH: Final = ("none", "starting", "healthy", "unhealthy")
_PORTS: Final = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?")
_UP: Final = (Status.RUNNING, Status.PAUSED)


@dataclass(frozen=True, slots=True)
class Seen:
    """A container with what filters look at."""

    container: ContainerState
    around: container_networks.Around
    image: ImageInfo | None


def check(wanted: filters.Filters) -> None:
    """Raises errors.InvalidArgument for values that mean nothing."""
    for key, known in (("status", _STATES), ("health", _HEALTH)):
        for value in wanted.get(key, ()):
            if value not in known:
                raise errors.InvalidArgument(
                    f"Unrecognised filter value for health: {value}"
                    if key == "health"
                    else f"invalid filter '{key}={value}'"
                )
    for value in wanted.get("exited", ()):
        if not re.fullmatch(r"[+-]?[0-9]{1,9}", value):
            raise errors.InvalidArgument(f"invalid filter 'exited={value}'")
    for key in ("publish", "expose"):
        for value in wanted.get(key, ()):
            _ports(key, value)
    filters.truth(wanted.get("is-task", ()), "is-task")


def all_states(wanted: filters.Filters) -> bool:
    """Whether a client asks for containers that don't run without `all`."""
    return "status" in wanted or "exited" in wanted


def chosen(everything: Iterable[Seen], wanted: filters.Filters) -> list[Seen]:
    """Newest first. Raises errors.NotFound where `before` or `since` name no container."""
    found = sorted(everything, key=lambda seen: (-seen.container.created_at, seen.container.id))
    bounds = {key: _bound(found, wanted[key]) for key in ("before", "since") if wanted.get(key)}
    return [seen for seen in found if _between(seen.container, bounds) and _meets(seen, wanted)]


def _bound(found: Iterable[Seen], names: Iterable[str]) -> int:
    name = next(iter(names)).removeprefix("/")
    for seen in found:
        if name == seen.container.name.removeprefix("/") or (name and seen.container.id.startswith(name)):
            return seen.container.created_at
    raise errors.NotFound(f"No such container: {name}")


def _between(container: ContainerState, bounds: Mapping[str, int]) -> bool:
    if "before" in bounds and container.created_at >= bounds["before"]:
        return False
    return "since" not in bounds or container.created_at > bounds["since"]


def _meets(seen: Seen, wanted: filters.Filters) -> bool:
    return all(values == () or _TESTS[key](seen, values) for key, values in wanted.items() if key in _TESTS)


# ---- one word each


def _name(seen: Seen, values: Collection[str]) -> bool:
    name = seen.container.name.removeprefix("/")
    return filters.matches(name, values) or filters.matches(f"/{name}", values)


def _status(seen: Seen, values: Collection[str]) -> bool:
    return shapes.state_word(seen.container, seen.around.restarting) in values


def _exited(seen: Seen, values: Collection[str]) -> bool:
    container = seen.container
    if container.status in _UP or container.exit is None:
        return False
    code = shapes.exit_code(container, seen.around.single)
    return any(int(value) == code for value in values)


def _ancestor(seen: Seen, values: Collection[str]) -> bool:
    return any(
        shapes.same_image(seen.container.image, value)
        or (seen.image is not None and (value in seen.image.tags or _of_id(seen.image.id, value)))
        for value in values
    )


def _of_id(image_id: str, value: str) -> bool:
    digits = value.removeprefix("sha256:")
    return len(digits) > 2 and image_id.removeprefix("sha256:").startswith(digits)


def _network(seen: Seen, values: Collection[str]) -> bool:
    """By name, or the beginning of an id."""
    networks = container_networks.networks(seen.container, seen.around)
    return any(
        value == name or (value and shown["NetworkID"].startswith(value))
        for value in values
        for name, shown in networks.items()
    )


def _volume(seen: Seen, values: Collection[str]) -> bool:
    mounts = seen.container.config.mounts if seen.container.config else ()
    places = {posixpath.normpath(p) for m in mounts if m.listed for p in (m.source, m.target) if p}
    return any(posixpath.normpath(value) in places for value in values if value)


def _ports(key: str, text: str) -> tuple[int, int, str]:
    match = _PORTS.fullmatch(text)
    if match is None or int(match[1]) > int(match[2] or match[1]) or int(match[2] or match[1]) > 65535:
        raise errors.InvalidArgument(f"invalid filter '{key}={text}'")
    return int(match[1]), int(match[2] or match[1]), match[3] or "tcp"


def _among(ports: Iterable[tuple[int, str]], key: str, values: Collection[str]) -> bool:
    wanted = [_ports(key, value) for value in values]
    return any(
        first <= number <= last and kind == protocol
        for number, kind in ports
        for first, last, protocol in wanted
    )


def _publish(seen: Seen, values: Collection[str]) -> bool:
    shown: list[dict[str, Any]] = container_networks.ports_line(seen.container, seen.around, seen.image)
    return _among(
        ((port["PublicPort"], port["Type"]) for port in shown if "PublicPort" in port), "publish", values
    )


def _expose(seen: Seen, values: Collection[str]) -> bool:
    return _among(container_networks.exposed_ports(seen.around, seen.image), "expose", values)


_TESTS: Final[Mapping[str, Callable[[Seen, Collection[str]], bool]]] = {
    "id": lambda seen, values: filters.matches(seen.container.id, values),
    "name": _name,
    "label": lambda seen, values: filters.labels_match(seen.container.labels, values),
    "status": _status,
    "exited": _exited,
    "ancestor": _ancestor,
    "network": _network,
    "volume": _volume,
    "publish": _publish,
    "expose": _expose,
    "health": lambda seen, values: "none" in values,
    "is-task": lambda seen, values: (
        filters.truth(values, "is-task") is (shapes.TASK_LABEL in seen.container.labels)
    ),
}
