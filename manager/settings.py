"""The manager's settings file, /etc/shoal/manager.toml. Every key has a default; unknown keys are refused by name."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

DEFAULT_FILE: Final = Path("/etc/shoal/manager.toml")


@dataclass(frozen=True, slots=True)
class Settings:
    """See docs for what each means to users."""

    state: str = "/var/lib/shoal/manager"
    socket: str = "/run/shoal/manager.sock"
    log_level: str = "info"


def load(path: Path) -> Settings:
    """The settings in `path`, defaults where there is no such file; raises ValueError with what is wrong."""
    try:
        data = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return Settings()
    except tomllib.TOMLDecodeError as exc:
        raise ValueError(f"{path}: {exc}") from exc
    known = {f.name for f in fields(Settings)}
    for key, value in data.items():
        if key not in known:
            raise ValueError(f"{path}: unknown setting {key!r}; there are {', '.join(sorted(known))}")
        if not isinstance(value, str):
            raise ValueError(f"{path}: {key} must be a string")
    return Settings(**data)
