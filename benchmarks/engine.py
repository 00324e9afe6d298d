"""The Engine API of one machine over its socket, and what one asks it while measuring.

Both sides of a comparison speak this API, so both are watched by the very same code. Called by the measures.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

POLL_SECONDS = 0.020
API = "/v1.41"  # the newest version that Debian's dockerd speaks


class BenchError(Exception):
    """A measure could not be taken; its text says why."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Engine:
    """One keep-alive connection to one machine's Engine API."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = _UnixConnection(path)

    def get(self, path: str, **filters: str) -> Any:
        """The JSON of one GET; ``filters`` as the API has them, one value each."""
        target = API + path
        if filters:
            joint = "&" if "?" in path else "?"
            target += joint + "filters=" + quote(json.dumps({k: [v] for k, v in filters.items()}))
        return json.loads(self._ask("GET", target))

    def post(self, path: str, body: Any) -> Any:
        """The JSON that one POST of JSON is answered with."""
        return json.loads(self._ask("POST", API + path, json.dumps(body)))

    def delete(self, path: str) -> None:
        self._ask("DELETE", API + path)

    def _ask(self, method: str, target: str, body: str | None = None) -> bytes:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            self._connection.request(method, target, body, headers)
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise BenchError(f"{method} {target} on {self.path}: {error!r}") from error
        if answer.status >= 400:
            raise BenchError(f"{method} {target}: {answer.status} {text.decode(errors='replace').strip()}")
        return text

    def running_tasks(self, service: str) -> list[dict[str, Any]]:
        """A service's tasks that run and are meant to."""
        tasks = self.get("/tasks", service=service)
        return [t for t in tasks if t["Status"]["State"] == t["DesiredState"] == "running"]

    def containers(self, service: str) -> int:
        """How many containers of a service there are on this machine, in whatever state."""
        label = f"com.docker.swarm.service.name={service}"
        return len(self.get("/containers/json?all=true", label=label))

    def failures(self, service: str) -> str:
        """What the service's tasks complain about, for the text of an error."""
        tasks = self.get("/tasks", service=service)
        texts = {f"{t['Status']['State']}: {t['Status'].get('Err', '')}" for t in tasks}
        return "; ".join(sorted(texts)[:6])


def polls(seconds: float) -> Iterator[float]:
    """One value every 20 ms until a deadline: the seconds since the start."""
    began = time.monotonic()
    due = began
    while (now := time.monotonic()) - began < seconds:
        yield now - began
        due = max(due + POLL_SECONDS, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


def wait_until(condition: Callable[[], bool], seconds: float, what: Callable[[], str]) -> float:
    """Polls a condition; the moment (monotonic) when its first true answer was in."""
    for _ in polls(seconds):
        if condition():
            return time.monotonic()
    raise BenchError(f"not within {seconds:.0f} s: {what()}")
