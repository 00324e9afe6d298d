"""The agent's settings: /etc/shoal/agent.toml, read once at start by agent/daemon.py.

Every key has a default, so the file may be absent; a key that does not exist is an error, since a typing mistake would
otherwise be silent.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from common import errors

PATH: Final = "/etc/shoal/agent.toml"


@dataclass(frozen=True, slots=True)
class Registry:
    """Where images come from."""

    mirrors: tuple[str, ...] = ()  # of docker.io: http://host:port, asked first
    insecure: tuple[str, ...] = ()  # host:port, spoken to in plain HTTP or with any certificate


@dataclass(frozen=True, slots=True)
class Engine:
    socket: str = "/run/shoal/docker.sock"
    group: str = "docker"  # may use the socket besides root, when it exists


@dataclass(frozen=True, slots=True)
class Containerd:
    address: str = "/run/containerd/containerd.sock"
    namespace: str = "shoal"
    runtime: str = "auto"  # auto, crun, runc, or a path
    starts: int = 6  # containers that start at a time


@dataclass(frozen=True, slots=True)
class State:
    dir: str = "/var/lib/shoal/agent"


@dataclass(frozen=True, slots=True)
class Network:
    folder: str = (
        "/run/shoal"  # where the namespaces of containers are mounted, below netns; a boot empties it
    )
    resolvers: tuple[str, ...] = ()  # where unknown names are asked; empty: the node's resolv.conf


@dataclass(frozen=True, slots=True)
class Manager:
    socket: str = "/run/shoal/manager.sock"


@dataclass(frozen=True, slots=True)
class Log:
    level: str = "info"


@dataclass(frozen=True, slots=True)
class Settings:
    registry: Registry = field(default_factory=Registry)
    engine: Engine = field(default_factory=Engine)
    containerd: Containerd = field(default_factory=Containerd)
    state: State = field(default_factory=State)
    network: Network = field(default_factory=Network)
    manager: Manager = field(default_factory=Manager)
    log: Log = field(default_factory=Log)


_SECTIONS: Final[Mapping[str, type[Any]]] = {
    "registry": Registry, "engine": Engine, "containerd": Containerd, "state": State,
    "network": Network, "manager": Manager, "log": Log,
}  # fmt: skip
_LEVELS: Final = ("debug", "info", "warning", "error")


def _value(where: str, default: object, given: object) -> object:
    """`given` as a value of the same kind as `default`."""
    if isinstance(default, tuple):
        if isinstance(given, list) and all(isinstance(item, str) for item in given):
            return tuple(given)
        raise errors.InvalidArgument(f"{where} must be a list of strings")
    if isinstance(default, int):
        if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
            return given
        raise errors.InvalidArgument(f"{where} must be a number that is not negative")
    if not isinstance(given, str):
        raise errors.InvalidArgument(f"{where} must be a string")
    return given


def _section(name: str, given: object) -> object:
    if not isinstance(given, dict):
        raise errors.InvalidArgument(f"[{name}] must be a table")
    default = _SECTIONS[name]()
    known = [f.name for f in fields(default)]
    for key in given:
        if key not in known:
            raise errors.InvalidArgument(f"[{name}] has no setting {key!r}; it has {', '.join(known)}")
    values = {key: _value(f"[{name}] {key}", getattr(default, key), value) for key, value in given.items()}
    return _SECTIONS[name](**values)


def parse(text: str) -> Settings:
    """Settings from the file's text; raises errors.InvalidArgument that names the mistake."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise errors.InvalidArgument(f"not TOML: {exc}") from exc
    for name in document:
        if name not in _SECTIONS:
            raise errors.InvalidArgument(f"there is no section [{name}]; there are {', '.join(_SECTIONS)}")
    sections: dict[str, Any] = {name: _section(name, given) for name, given in document.items()}
    settings = Settings(**sections)
    if settings.log.level.lower() not in _LEVELS:
        raise errors.InvalidArgument(f"[log] level must be one of {', '.join(_LEVELS)}")
    return settings


def load(path: str = PATH) -> Settings:
    """Settings from `path`, or the defaults when there is no such file."""
    file = Path(path)
    if not file.exists():
        return Settings()
    try:
        return parse(file.read_text(encoding="utf-8"))
    except errors.InvalidArgument as exc:
        raise errors.InvalidArgument(f"{path}: {exc.message}") from exc
