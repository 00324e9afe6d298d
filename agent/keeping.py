"""Reads back dataclasses that were kept as JSON, maybe by another version. Pure.

Called for the records of containers and networks, and for a node's papers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any


def known(kind: type[Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a class's fields: another version may have written more. JSON has lists for tuples."""
    names = {field.name for field in fields(kind)}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in data.items()
        if name in names
    }
