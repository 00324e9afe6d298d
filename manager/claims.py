"""What a node says of itself, as far as it may be passed on. Pure; used where nodes join (ca/service.py) and open sessions
(dispatcher/registration.py).

A certificate says who speaks, not that he speaks the truth: an address that is none would make every other node's plan of
its networks fail, and a name with control characters writes on whatever terminal shows it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Final

from common import model

_LONGEST_NAME: Final = 255


def address(text: str, otherwise: str = "") -> str:
    """The IP address in its one form; `otherwise` for a text that is none, or that nobody can be reached at."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return otherwise
    nobodys = found.is_unspecified or found.is_multicast or "%" in text
    return otherwise if nobodys else str(found)


def hostname(text: str) -> str:
    """It, fit to be shown."""
    return "".join(c if c.isprintable() else "?" for c in text[:_LONGEST_NAME])


def description(told: model.NodeDescription) -> model.NodeDescription:
    """It, without what cannot be."""
    return replace(told, hostname=hostname(told.hostname), data_path_addr=address(told.data_path_addr))
