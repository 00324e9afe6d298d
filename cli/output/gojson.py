"""JSON to the letter as Go's encoder writes it. Pure."""

from __future__ import annotations

import json
from typing import Any

_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def encode(value: Any, escape: bool = False, sort: bool = False) -> str:
    """One line. `escape`: also <, > and &, as Go does unless told otherwise."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=sort)
    return _escaped(text) if escape else text


def indented(value: Any, escape: bool = False) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=4)
    return _escaped(text) if escape else text


def _escaped(text: str) -> str:
    for character, sequence in _HTML.items():
        text = text.replace(character, sequence)
    return text
