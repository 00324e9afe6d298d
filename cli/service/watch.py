"""Waits until a service has become what was asked for, and shows how it goes. Called by create, update and scale.

The daemon is asked every 200 ms, as `docker` does: the API has no stream for it. A service has converged once all its
tasks run and have run for the monitoring period. Ctrl-C ends the waiting, not the work.
"""

from __future__ import annotations

from typing import Any

from cli import clock
from cli.command import PROGRAM, Session
from cli.errors import CliError
from cli.output.progress import Display, Progress
from cli.service.updaters import Updater, updater_for

_INTERVAL = 0.2
_SECOND = 1_000_000_000
_MONITOR = 5 * _SECOND


def watch_service(session: Session, name: str, quiet: bool) -> int:
    """Show progress until the service `name` has converged. Raises CliError if its update is paused."""
    watch = _Watch(session, name, Display(session.out, quiet))
    try:
        while not watch.step():
            clock.pause(_INTERVAL)
    except KeyboardInterrupt:
        if not watch.converged:
            watch.display.message("Operation continuing in background.")
            watch.display.message(f"Use `{PROGRAM} service ps {name}` to check progress.")
    return 0


class _Watch:
    def __init__(self, session: Session, name: str, display: Display) -> None:
        self._client = session.client
        self._name = name
        self.display = display
        self.converged = False
        self._since: float | None = None
        self._rollback = False
        self._last_word: Progress | None = None
        self._updater: Updater | None = None
        self._filters: dict[str, dict[str, bool]] = {}

    def step(self) -> bool:
        """Ask once and draw; True when there's nothing left to wait for."""
        service = self._client.get(f"/services/{self._name}", {"insertDefaults": "false"})
        monitor = (service["Spec"].get("UpdateConfig") or {}).get("Monitor") or _MONITOR
        if self._updater is None:
            self._updater = updater_for(service, self.display)
            self._filters = {"service": {service["ID"]: True}, "_up-to-date": {"true": True}}
        if self._read_status(service.get("UpdateStatus") or {}):
            return True
        if self.converged and self._since is not None and self._stable_for() * _SECOND >= monitor:
            self.display.show(Progress("verify", f"Service {self._name} converged"))
            if self._last_word is not None:
                self.display.show(self._last_word)
            return True
        tasks = self._client.get("/tasks", filters=self._filters)
        nodes = self._client.get("/nodes")
        active = {node["ID"] for node in nodes if (node.get("Status") or {}).get("State") != "down"}
        self.converged = self._updater.update(service, tasks, active, self._rollback)
        if self.converged and service.get("JobStatus") is not None:
            self.display.message("job complete")
            return True
        self._verify(monitor)
        return False

    def _stable_for(self) -> float:
        return clock.steady() - (self._since or 0.0)

    def _verify(self, monitor: int) -> None:
        if not self.converged:
            if self._since is not None:
                self.display.show(Progress("verify", "Detected task failure"))
            self._since = None
            return
        if self._since is None:
            self._since = clock.steady()
        left = monitor / _SECOND - self._stable_for()
        if left >= 0:
            seconds = max(1, int(left - 1e-9) + 1)
            self.display.show(
                Progress("verify", f"Waiting {seconds} seconds to verify that tasks are stable...")
            )

    def _read_status(self, status: dict[str, Any]) -> bool:
        """Follow an update's state; True if it ended before we saw the service converge."""
        state, message = status.get("State", ""), status.get("Message", "")
        if state == "updating":
            self._rollback = False
        elif state == "completed":
            return not self.converged
        elif state == "paused":
            raise CliError(f"service update paused: {message}")
        elif state == "rollback_paused":
            raise CliError(f"service rollback paused: {message}")
        elif state == "rollback_started":
            if not self._rollback and message:
                self.display.show(Progress("rollback", message))
            self._rollback = True
        elif state == "rollback_completed":
            if not self.converged:
                self._last_word = Progress("rollback", message)
            self._rollback = True
        return False
