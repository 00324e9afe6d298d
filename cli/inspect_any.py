"""`shoal inspect`: any object by name or id, whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cli.command import SOME, Command, Session
from cli.common_flags import INSPECT_FORMAT
from cli.errors import ApiError, CliError
from cli.flags import Flag, Values
from cli.output.inspecting import inspect
from cli.values.basic import BOOL, STRING

_LOCAL = {
    "container": "/containers/{}/json",
    "image": "/images/{}/json",
    "network": "/networks/{}",
    "volume": "/volumes/{}",
}
_OF_THE_SWARM = {
    "service": "/services/{}",
    "task": "/tasks/{}",
    "node": "/nodes/{}",
    "secret": "/secrets/{}",
    "config": "/configs/{}",
}


def _inspect(session: Session, flags: Values, names: list[str]) -> int:
    kind = flags.text("type")
    if kind and kind not in {**_LOCAL, **_OF_THE_SWARM}:
        raise CliError(f"unknown type: {kind}")
    query = {"size": "1"} if flags.on("size") else {}
    return inspect(session, names, _fetcher(session, kind, query), flags.text("format"), escape=False)


def _fetcher(session: Session, kind: str, query: dict[str, str]) -> Callable[[str], Any]:
    manager: bool | None = None

    def get(kind: str, name: str) -> Any:
        path = {**_LOCAL, **_OF_THE_SWARM}[kind].format(name)
        given = query if kind == "container" else {"insertDefaults": "true"} if kind == "service" else {}
        found = session.client.get(path, given)
        if query and kind != "container":
            session.warn(f"WARNING: --size ignored for {kind}")
        return found

    def fetch(name: str) -> Any:
        nonlocal manager
        if kind:
            return get(kind, name)
        for candidate in [*_LOCAL, *_OF_THE_SWARM]:
            if candidate in _OF_THE_SWARM:
                if manager is None:
                    manager = bool(session.client.get("/info").get("Swarm", {}).get("ControlAvailable"))
                if not manager:
                    break
            try:
                return get(candidate, name)
            except ApiError as error:
                if not error.is_not_found and error.status != _NOT_IMPLEMENTED:
                    raise
        raise CliError(f"Error: No such object: {name}")

    return fetch


_NOT_IMPLEMENTED = 501

INSPECT = Command(
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Return low-level information on Docker objects",
    _inspect,
    (
        INSPECT_FORMAT,
        Flag("size", BOOL, "Display total file sizes if the type is container", short="s"),
        Flag("type", STRING, "Only inspect objects of the given type"),
    ),
    SOME,
)
