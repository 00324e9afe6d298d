"""Records what clients of several managers saw, for the judge of histories in tests/simulation/history.py.

Keys are services without tasks. A service's label is a list: a write appends its own value to it, on condition that the
service's version is still the one that was read; so the last value is the key's, and the whole list is what was applied,
in its order. Besides, services are created under names of their own, each of them once. No call is ever repeated.

Refused is only what the manager said it refused for good; any other answer, or none, may have been or be applied.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

from tests.lab.support import Machine, UnixConnection, until
from tests.simulation.history import History, Operation, Verdict, judge

LABEL = "log"
CALL_SECONDS = 25.0  # longer than anybody is paused: calls that waited for the pause to end are of interest
JOIN_SECONDS = 60.0
CERTAIN = (400, 404, 409)
OUT_OF_SEQUENCE = "out of sequence"


class NotSent(Exception):
    """Nobody took the connection: the request can't have any effect."""


def request(machine: Machine, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """One request to a machine's Engine API. Raises NotSent, OSError or HTTPException."""
    connection = UnixConnection(machine.socket)
    connection.timeout = CALL_SECONDS
    try:
        try:
            connection.connect()
        except OSError as exc:
            raise NotSent(str(exc)) from exc
        data = None if body is None else json.dumps(body)
        connection.request(method, f"/v1.50{path}", data, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text.strip() else None
    finally:
        connection.close()


def entries(service: dict[str, Any]) -> list[str]:
    """The values that a key has taken, in their order."""
    text: str = (service["Spec"].get("Labels") or {}).get(LABEL, "")
    return text.split()


class Recorder:
    """Clients in threads: for each manager one that writes and `readers` that read; `with` starts and ends them."""

    def __init__(self, machines: Sequence[Machine], name: str, rate: float = 8.0, readers: int = 2) -> None:
        self.machines = list(machines)
        self.name = name
        self.history = History()
        self.errors: dict[str, Counter[str]] = {m.name: Counter() for m in machines}
        self.reads: Counter[str] = Counter()
        self.writes: Counter[str] = Counter()
        self._rate = rate
        self._readers = readers
        self._stop = threading.Event()
        self._numbers = itertools.count()
        self._threads = ThreadPoolExecutor(len(self.machines) * (1 + readers))
        self._work: list[Future[None]] = []
        # One for each writer, one for all of them.
        self.keys = [f"key-{name}-{i}" for i in range(len(self.machines) + 1)]
        self._made: list[str] = []

    # -- life

    def __enter__(self) -> Recorder:
        for key in self.keys:
            spec = self._spec(key)
            made = until(partial(self._created, spec), 30, f"{key} is made")
            assert made
        for number, machine in enumerate(self.machines):
            self._start(self._writer, f"w{number}", machine, [self.keys[number], self.keys[-1]])
            for reader in range(self._readers):
                self._start(self._reader, f"r{number}.{reader}", machine, self.keys[reader:])
        return self

    def _created(self, spec: dict[str, Any]) -> bool:
        status, _ = request(self.machines[0], "POST", "/services/create", spec)
        return status in (201, 409)

    def _start(self, work: Callable[[str, Machine, list[str]], None], *arguments: Any) -> None:
        self._work.append(self._threads.submit(work, *arguments))

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        late = wait(self._work, JOIN_SECONDS).not_done
        self._threads.shutdown(wait=False)
        assert not late, "a recording client does not end"
        for client in self._work:
            client.result()

    @property
    def acknowledged(self) -> int:
        """Writes so far that were acknowledged."""
        return sum(op.kind == "write" and op.outcome == "ok" for op in tuple(self.history.operations))

    def wait_more(self, count: int, seconds: float = 30) -> None:
        """Waits for so many more acknowledged writes."""
        before = self.acknowledged
        until(lambda: self.acknowledged >= before + count, seconds, f"{count} more writes")

    # -- clients

    def _spec(self, name: str) -> dict[str, Any]:
        return {
            "Name": name,
            "Labels": {},
            "TaskTemplate": {"ContainerSpec": {"Image": "alpine"}},
            "Mode": {"Replicated": {"Replicas": 0}},
        }

    def _writer(self, client: str, machine: Machine, keys: list[str]) -> None:
        turns = itertools.cycle([*keys, keys[0], ""])
        while not self._stop.wait(1 / self._rate):
            key = next(turns)
            if key:
                self._append(client, machine, key)
            else:
                self._create(client, machine)

    def _reader(self, client: str, machine: Machine, keys: list[str]) -> None:
        turns = itertools.cycle(keys)
        while not self._stop.wait(0.5 / self._rate):
            self._read(client, machine, next(turns))

    def _read(self, client: str, machine: Machine, key: str) -> dict[str, Any] | None:
        """One recorded read; the service, None when there was no good answer."""
        operation = self.history.read(client, key, time.monotonic())
        try:
            status, service = request(machine, "GET", f"/services/{key}")
        except (NotSent, OSError, http.client.HTTPException) as exc:
            self._failed(machine, "read", exc)
            return None
        if status != 200:
            self._failed(machine, "read", service)
            return None
        values = entries(service)
        operation.finish(time.monotonic(), values[-1] if values else None)
        self.reads[machine.name] += 1
        return service  # type: ignore[no-any-return]

    def _append(self, client: str, machine: Machine, key: str) -> None:
        service = self._read(client, machine, key)
        if service is None:
            return
        value = f"{client}-{next(self._numbers)}"
        spec = service["Spec"]
        spec["Labels"] = {**(spec.get("Labels") or {}), LABEL: " ".join([*entries(service), value])}
        path = f"/services/{service['ID']}/update?version={service['Version']['Index']}"
        self._perform(self.history.write(client, key, value, time.monotonic()), machine, path, spec)

    def _create(self, client: str, machine: Machine) -> None:
        name = f"made-{self.name}-{client}-{next(self._numbers)}"
        self._made.append(name)
        operation = self.history.write(client, name, name, time.monotonic())
        self._perform(operation, machine, "/services/create", self._spec(name))

    def _perform(self, operation: Operation, machine: Machine, path: str, spec: object) -> None:
        try:
            status, said = request(machine, "POST", path, spec)
        except NotSent as exc:
            operation.refuse(time.monotonic())
            self._failed(machine, "write", exc)
            return
        except (OSError, http.client.HTTPException) as exc:
            self._failed(machine, "write", exc)
            return
        if status < 300:
            operation.finish(time.monotonic())
            self.writes[machine.name] += 1
        elif status in CERTAIN or OUT_OF_SEQUENCE in str(said):
            operation.refuse(time.monotonic())
        else:
            self._failed(machine, "write", said)

    def _failed(self, machine: Machine, kind: str, what: object) -> None:
        text = what.get("message", str(what)) if isinstance(what, dict) else f"{type(what).__name__}: {what}"
        self.errors[machine.name][f"{kind}: {text}"] += 1

    # -- the end

    def conclude(self, path: Path) -> Verdict:
        """Reads everything through every manager, when all live again, takes the keys away, and judges; saves to `path`."""
        for machine in self.machines:
            for key in self.keys:
                service = until(
                    partial(self._read, f"end-{machine.name}", machine, key),
                    30,
                    f"{machine.name} reads {key}",
                )
                self.history.applied[key] = entries(service)
        status, services = request(self.machines[0], "GET", "/services")
        assert status == 200, services
        names = [s["Spec"]["Name"] for s in services]
        for name in self._made:
            self.history.applied[name] = [n for n in names if n == name]
        self.history.save(path)
        for name in {*self.keys, *self._made} & set(names):
            request(self.machines[0], "DELETE", f"/services/{name}")
        return judge(History.load(path))

    def account(self) -> str:
        """What each manager answered, in a line each."""
        lines = []
        for machine in self.machines:
            failed = ", ".join(f"{n} × {text}" for text, n in self.errors[machine.name].most_common(6))
            lines.append(
                f"  {machine.name}: {self.reads[machine.name]} reads, {self.writes[machine.name]} writes; {failed or 'no errors'}"
            )
        return "\n".join(lines)
