"""The endpoints that agent/network/manager.py last knew of, (network, address): with them a new process flushes from
conntrack what went while no agent ran."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Final

_log: Final = logging.getLogger(__name__)


class EndpointsFile:
    """One file; without it nothing is flushed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> frozenset[tuple[str, str]]:
        """Who was there when the last process ended."""
        try:
            rows = json.loads(self._path.read_text())
            return frozenset((str(network), str(address)) for network, address in rows)
        except FileNotFoundError:
            return frozenset()
        except ValueError as error:
            _log.warning("%s is unreadable: %s", self._path.name, error)
            return frozenset()

    def save(self, endpoints: frozenset[tuple[str, str]]) -> None:
        """Replaces the file in one step; there is none for no endpoints."""
        if not endpoints:
            self._path.unlink(missing_ok=True)
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(sorted(endpoints)))
        os.replace(new, self._path)
