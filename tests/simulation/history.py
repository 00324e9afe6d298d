"""Judges what clients saw: is the history linearizable, and was every acknowledged write applied exactly once?

A history is a file of JSON lines, one operation or one key's applied writes each:

    {"client": "c1", "kind": "write", "key": "a", "value": "a7", "call": 1.2, "return": 1.9, "outcome": "ok"}
    {"client": "c2", "kind": "read", "key": "a", "value": "a7", "call": 1.5, "return": 1.6, "outcome": "ok"}
    {"kind": "applied", "key": "a", "values": ["a6", "a7"]}

Times are numbers of one clock. The outcome is `ok`, `unknown` (no answer: it may take effect at any time or never;
`return` is null) or `refused` (it never may). A value is a string, or null for "nothing there"; every write of a
key has a value of its own. `applied` says which writes the state machine took, in its order: optional.

The search is Wing and Gong's with Lowe's memory, one key at a time. It needs exponential time if too many clients
work on one key at once; a search that doesn't end within its budget is no verdict but a fault of the test's design.

Knows nothing of simulations: tests of the lab use it too, and `python -m tests.simulation.history FILE` prints the
verdict.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BUDGET = 1_000_000


class Undecided(Exception):
    """The search was given up: too many operations on one key at once, a fault of the test's design."""


@dataclass(slots=True)
class Operation:
    """One call of a client; `finish` or `refuse` it, or leave it unanswered."""

    client: str
    kind: str
    key: str
    value: str | None
    call: float
    returned: float = math.inf
    outcome: str = "unknown"

    def finish(self, now: float, value: str | None = None) -> None:
        """It was answered; `value` is what a read saw."""
        self.returned, self.outcome = now, "ok"
        if self.kind == "read":
            self.value = value

    def refuse(self, now: float) -> None:
        """It was answered that it won't happen."""
        self.returned, self.outcome = now, "refused"

    def __str__(self) -> str:
        end = f"{self.returned:.3f}" if self.returned < math.inf else "…"
        said = "returned" if self.kind == "read" else "of"
        return f"{self.kind} {said} {self.value!r} by {self.client} at {self.call:.3f}–{end}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One sentence, and whether it is a good one."""

    ok: bool
    sentence: str


@dataclass(slots=True)
class History:
    """What clients saw, and what was applied in the end, by key."""

    operations: list[Operation] = field(default_factory=list)
    applied: dict[str, list[str]] = field(default_factory=dict)

    def write(self, client: str, key: str, value: str, now: float) -> Operation:
        """A client begins to write."""
        operation = Operation(client, "write", key, value, now)
        self.operations.append(operation)
        return operation

    def read(self, client: str, key: str, now: float) -> Operation:
        """A client begins to read."""
        operation = Operation(client, "read", key, None, now)
        self.operations.append(operation)
        return operation

    def save(self, path: Path) -> None:
        """Writes the file."""
        with path.open("w") as out:
            for op in self.operations:
                end = op.returned if op.returned < math.inf else None
                line = {"client": op.client, "kind": op.kind, "key": op.key, "value": op.value}
                out.write(json.dumps(line | {"call": op.call, "return": end, "outcome": op.outcome}) + "\n")
            for key, values in self.applied.items():
                out.write(json.dumps({"kind": "applied", "key": key, "values": values}) + "\n")

    @classmethod
    def load(cls, path: Path) -> History:
        """Reads a file; raises ValueError with the line's number."""
        history = cls()
        for number, line in enumerate(path.read_text().splitlines(), 1):
            try:
                history._take(json.loads(line))
            except (KeyError, TypeError, ValueError) as exc:
                raise ValueError(f"{path}, line {number}: {exc!r}") from exc
        return history

    def _take(self, line: dict[str, Any]) -> None:
        if line["kind"] == "applied":
            self.applied[line["key"]] = list(line["values"])
            return
        if line["kind"] not in ("read", "write") or line["outcome"] not in ("ok", "unknown", "refused"):
            raise ValueError("neither a read nor a write, or no such outcome")
        end = math.inf if line["return"] is None else float(line["return"])
        if line["outcome"] == "ok" and not float(line["call"]) <= end < math.inf:
            raise ValueError("an answer without a time, or before its call")
        self.operations.append(
            Operation(
                line["client"],
                line["kind"],
                line["key"],
                line["value"],
                float(line["call"]),
                end,
                line["outcome"],
            )
        )


def judge(history: History, budget: int = BUDGET) -> Verdict:
    """The verdict on a whole history; raises Undecided."""
    keys: dict[str, list[Operation]] = defaultdict(list)
    for operation in history.operations:
        keys[operation.key].append(operation)
    for key in sorted(keys.keys() | history.applied.keys()):
        wrong = _strangers(keys[key])
        if not wrong and key in history.applied:
            wrong = _applied_wrongly(keys[key], history.applied[key])
        if not wrong:
            wrong = unlinearizable(keys[key], budget)
        if wrong:
            return Verdict(False, f"BROKEN: key {key}: {wrong}.")
    return Verdict(True, _praise(history))


def _praise(history: History) -> str:
    outcomes = Counter((op.kind, op.outcome) for op in history.operations)
    clients = len({op.client for op in history.operations})
    text = (
        f"Linearizable: {outcomes['read', 'ok']} reads and {outcomes['write', 'ok']} acknowledged writes of"
        f" {clients} clients on {len({op.key for op in history.operations})} keys"
    )
    if history.applied:
        text += (
            "; every acknowledged write was applied exactly once,"
            f" {outcomes['write', 'unknown']} unanswered at most once,"
            f" {outcomes['write', 'refused']} refused never"
        )
    return text + "."


def _strangers(operations: Sequence[Operation]) -> str:
    """Whether a read saw what nobody wrote, or wrote only later."""
    writers: dict[str | None, Operation] = {}
    for op in operations:
        if op.kind == "write":
            if op.value in writers:
                raise ValueError(f"two writes of {op.value!r} on key {op.key}: each needs a value of its own")
            writers[op.value] = op
    for op in operations:
        if op.kind != "read" or op.outcome != "ok":
            continue
        writer = writers.get(op.value)
        if writer is None:
            if op.value is not None:
                return f"{op} saw what nobody wrote"
        elif writer.outcome == "refused":
            return f"{op} saw a write that was refused: {writer}"
        elif writer.call > op.returned:
            return f"{op} saw a write of later: {writer}"
    return ""


def _applied_wrongly(operations: Iterable[Operation], applied: Sequence[str]) -> str:
    """What is wrong with the writes that the state machine took."""
    writes = {op.value: op for op in operations if op.kind == "write"}
    for value, count in Counter(applied).items():
        if value not in writes:
            return f"{value!r} was applied, and nobody wrote it"
        if count > 1:
            return f"applied {count} times: {writes[value]}"
        if writes[value].outcome == "refused":
            return f"refused and yet applied: {writes[value]}"
    taken = set(applied)
    latest: Operation | None = None
    for op in writes.values():
        if op.outcome == "ok" and op.value not in taken:
            return f"acknowledged and lost: {op}"
    for value in applied:
        op = writes[value]
        if latest is not None and op.returned < latest.call:
            return f"{op} was over before {latest} began, and was applied after it"
        if latest is None or op.call > latest.call:
            latest = op
    return ""


# -- the search -----------------------------------------------------------------------------------------------------


def unlinearizable(operations: Sequence[Operation], budget: int = BUDGET) -> str:
    """Why the operations on one key are not those of one register; empty if they are. Raises Undecided."""
    ops = _bounded(operations)
    furthest = _search(ops, budget)
    if furthest is None:
        return ""
    return f"not linearizable, no order of operations reaches beyond {ops[furthest]}"


def _bounded(operations: Sequence[Operation]) -> list[Operation]:
    """The operations that matter, none of them open.

    A write that nobody acknowledged took effect before the first read of its value was over; without such a read
    it makes no difference. A write's value is its own, so that this loses nothing.
    """
    seen: dict[str | None, float] = {}
    for op in operations:
        if op.kind == "read" and op.outcome == "ok":
            seen[op.value] = min(seen.get(op.value, math.inf), op.returned)
    bounded: list[Operation] = []
    for op in operations:
        if op.outcome == "ok":
            bounded.append(op)
        elif op.kind == "write" and op.outcome == "unknown" and op.value in seen:
            end = max(seen[op.value], op.call)
            bounded.append(Operation(op.client, op.kind, op.key, op.value, op.call, end, "unknown"))
    return bounded


def _search(ops: Sequence[Operation], budget: int) -> int | None:
    """None if there is an order, else the first operation (by its end) that no order gets to."""
    count = len(ops)
    if not count:
        return None
    # Events in a ring of links: 0..2n-1 by time, calls before returns of the same moment; `head` is the anchor.
    order: list[tuple[float, int, int]] = sorted(
        [(op.call, 0, i) for i, op in enumerate(ops)] + [(op.returned, 1, i) for i, op in enumerate(ops)]
    )
    head = len(order)
    after = [*range(1, head + 1), 0]
    before = [head, *range(head)]
    ends = [0] * count
    for place, (_, is_end, i) in enumerate(order):
        if is_end:
            ends[i] = place
    value: str | None = None
    done = 0
    seen: set[tuple[int, str | None]] = set()
    chosen: list[tuple[int, str | None, int]] = []
    place, reached = after[head], 0
    while after[head] != head:
        budget -= 1
        if budget < 0:
            raise Undecided(
                f"{count} operations on one key: no verdict within the budget. Fewer clients on a key, or more keys"
            )
        _, is_end, i = order[place]
        if is_end:
            # An operation that must have happened by now can't: take the last choice back.
            reached = max(reached, place)
            if not chosen:
                failed: int = order[reached][2]
                return failed
            place, value, done = chosen.pop()
            _relink(place, ends[order[place][2]], after, before)
            place = after[place]
            continue
        op = ops[i]
        result = op.value if op.kind == "write" else value
        state = (done | 1 << i, result)
        if op.value == result and state not in seen:
            seen.add(state)
            chosen.append((place, value, done))
            done, value = state
            _unlink(place, ends[i], after, before)
            place = after[head]
        else:
            place = after[place]
    return None


def _unlink(call: int, end: int, after: list[int], before: list[int]) -> None:
    for place in (call, end):
        after[before[place]] = after[place]
        before[after[place]] = before[place]


def _relink(call: int, end: int, after: list[int], before: list[int]) -> None:
    for place in (end, call):
        after[before[place]] = place
        before[after[place]] = place


def main(paths: Sequence[str]) -> int:
    """Prints a verdict for each file; 1 if one is broken, 2 if one can't be judged."""
    worst = 0
    for path in paths:
        try:
            verdict = judge(History.load(Path(path)))
        except (Undecided, ValueError) as exc:
            print(f"{path}: NO VERDICT: {exc}")
            worst = 2
            continue
        print(f"{path}: {verdict.sentence}")
        worst = max(worst, 0 if verdict.ok else 1)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
