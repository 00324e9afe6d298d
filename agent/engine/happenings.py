"""What happens on this node, in the words of `docker events`: one of them, and which a client asks for. Pure; for journal.py,
telling.py and events.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent.engine.filters import Filters, labels_match

CONTAINER: Final = "container"
NETWORK: Final = "network"
IMAGE: Final = "image"
_SECOND: Final = 1_000_000_000
# Actions with something behind a colon: a client that names the action alone means them all.
_FAMILIES: Final = ("exec_create", "exec_start", "health_status")
_BY_NAME: Final = (CONTAINER, "config", "network", "node", "plugin", "secret", "service", "volume")


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of `docker events`."""

    kind: str
    action: str
    id: str  # of what it happened to
    attributes: Mapping[str, str] = field(default_factory=dict)
    at: int = 0  # ns
    scope: str = "local"

    def shown(self) -> dict[str, Any]:
        """As JSON; containers and images also in the old form."""
        old: dict[str, str] = {}
        if self.kind in (CONTAINER, IMAGE):
            old = {"status": self.action, "id": self.id}
        if self.kind == CONTAINER and self.attributes.get("image"):
            old["from"] = self.attributes["image"]
        return {
            **old,
            "Type": self.kind,
            "Action": self.action,
            "Actor": {"ID": self.id, "Attributes": dict(self.attributes)},
            "scope": self.scope,
            "time": self.at // _SECOND,
            "timeNano": self.at,
        }


def meets(happening: Happening, wanted: Filters) -> bool:
    """Whether a client with these filters is told."""
    name = happening.attributes.get("name", "")
    exact = {"type": (happening.kind,), "scope": (happening.scope,), "image": _images(happening)}
    for key, values in wanted.items():
        if key == "event":
            met = any(_same_action(happening.action, value) for value in values)
        elif key == "label":
            met = labels_match(happening.attributes, values)
        elif key in exact:
            met = any(value in exact[key] for value in values)
        elif key in _BY_NAME:
            met = _begins((happening.id, name), values)
        else:  # a daemon by its name: there is but one
            met = True
        if not met:
            return False
    return True


def _same_action(action: str, wanted: str) -> bool:
    return action == wanted or (wanted in _FAMILIES and action.startswith(f"{wanted}:"))


def _begins(known: Iterable[str], wanted: Iterable[str]) -> bool:
    names = tuple(known)
    return any(name.startswith(value) for value in wanted for name in names)


def _images(happening: Happening) -> tuple[str, ...]:
    """The names of the image that it is about, with and without tag."""
    name = happening.attributes.get("name" if happening.kind == IMAGE else "image", "")
    return tuple(text for given in (happening.id, name) for text in (given, _without_tag(given)))


def _without_tag(name: str) -> str:
    name = name.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name
