from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulation.history import History, Operation, Undecided, judge, main, unlinearizable


def write(value: str, call: float, end: float = math.inf, client: str = "w", key: str = "a") -> Operation:
    return Operation(client, "write", key, value, call, end, "ok" if end < math.inf else "unknown")


def read(value: str | None, call: float, end: float, client: str = "r", key: str = "a") -> Operation:
    return Operation(client, "read", key, value, call, end, "ok")


def refused(value: str, call: float) -> Operation:
    return Operation("w", "write", "a", value, call, call + 1, "refused")


RIGHT = {
    "nothing happened": [],
    "nothing there yet": [read(None, 1, 2)],
    "one after the other": [write("x", 1, 2), read("x", 3, 4)],
    "a read beside a write sees the old": [write("x", 1, 5), read(None, 2, 3)],
    "a read beside a write sees the new": [write("x", 1, 5), read("x", 2, 3), read("x", 4, 6)],
    "writes in either order": [write("x", 1, 5), write("y", 1, 5), read("x", 6, 7)],
    "an unanswered write took effect late": [write("x", 1), read(None, 2, 3), read("x", 4, 5)],
    "an unanswered write never took effect": [write("x", 1, 2), write("y", 3), read("x", 9, 10)],
    "an unanswered write between reads": [write("x", 1, 2), write("y", 1), read("y", 3, 4), read("y", 5, 6)],
    "what ends and begins at once is concurrent": [write("x", 1, 2), read(None, 2, 3)],
}

BROKEN = {
    "a stale read": [write("x", 1, 2), read(None, 3, 4)],
    "a read that goes back": [write("x", 1, 9), read("x", 2, 3), read(None, 4, 5)],
    "a lost write": [write("x", 1, 2), write("y", 3, 4), read("x", 5, 6)],
    "a write that comes back": [
        write("x", 1, 2),
        write("y", 3, 4),
        read("y", 5, 6),
        read("x", 7, 8),
    ],
    "an unanswered write that comes back": [
        write("x", 1),
        read("x", 2, 3),
        write("y", 4, 5),
        read("x", 6, 7),
    ],
    "two readers that disagree": [
        write("x", 1, 20),
        write("y", 1, 20),
        read("x", 2, 3),
        read("y", 4, 5),
        read("x", 6, 7),
    ],
    "what nobody wrote": [read("z", 1, 2)],
    "what is written only later": [read("x", 1, 2), write("x", 3)],
    "what was refused": [refused("x", 1), read("x", 3, 4)],
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_history_is_called_so(name: str) -> None:
    verdict = judge(History(list(RIGHT[name])))
    assert verdict.ok, verdict.sentence


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_history_is_called_so(name: str) -> None:
    verdict = judge(History(list(BROKEN[name])))
    assert not verdict.ok
    assert verdict.sentence.startswith("BROKEN: key a: ")


def test_keys_are_registers_of_their_own() -> None:
    ops = [write("x", 1, 2, key="a"), read(None, 3, 4, key="b")]
    assert judge(History(ops)).ok
    assert not judge(History([*ops, read(None, 5, 6, key="a")])).ok


@pytest.mark.parametrize(
    ("applied", "wrong"),
    [
        (["x", "y"], ""),
        (["x", "y", "open"], ""),
        (["x", "y", "x"], "applied 2 times"),
        (["y"], "acknowledged and lost"),
        (["x", "y", "no"], "refused and yet applied"),
        (["x", "y", "z"], "nobody wrote it"),
        (["y", "x"], "applied after it"),
    ],
)
def test_writes_are_applied_once(applied: list[str], wrong: str) -> None:
    ops = [write("x", 1, 2), write("y", 3, 4), write("open", 3), refused("no", 5)]
    verdict = judge(History(ops, {"a": applied}))
    assert verdict.ok == (not wrong)
    assert wrong in verdict.sentence


def test_the_verdict_is_one_sentence_with_the_numbers() -> None:
    ops = [write("x", 1, 2), write("y", 3), refused("no", 5), read("x", 3, 4)]
    assert judge(History(ops, {"a": ["x"]})).sentence == (
        "Linearizable: 1 reads and 1 acknowledged writes of 2 clients on 1 keys; every acknowledged write was "
        "applied exactly once, 1 unanswered at most once, 1 refused never."
    )


def test_a_history_survives_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "history"
    history = History([write("x", 1, 2), write("y", 3), read("x", 3, 4), refused("no", 5)], {"a": ["x"]})
    history.save(path)
    assert History.load(path) == history
    assert main([str(path)]) == 0
    assert "Linearizable" in capsys.readouterr().out
    History([write("x", 1, 2), read(None, 3, 4)]).save(path)
    assert main([str(path)]) == 1
    path.write_text('{"kind": "guess"}\n')
    assert main([str(path)]) == 2
    assert "line 1" in capsys.readouterr().out


def test_two_writes_of_one_value_are_a_fault_of_the_test() -> None:
    with pytest.raises(ValueError, match="value of its own"):
        judge(History([write("x", 1, 2), write("x", 3, 4)]))


def test_a_search_without_end_is_no_verdict() -> None:
    ops = [write(f"v{i}", 0, 100) for i in range(24)]
    ops += [read("v1", 101, 102), read("v2", 103, 104)]
    with pytest.raises(Undecided, match="no verdict"):
        judge(History(ops), budget=20_000)


def test_a_long_history_is_judged() -> None:
    rng = random.Random(1)
    history, now, value = History(), 0.0, None
    for number in range(5_000):
        now += rng.random()
        if rng.random() < 0.5:
            value = f"v{number}"
            history.write("w", "a", value, now).finish(now + 3 * rng.random())
            now += 3
        else:
            history.read("r", "a", now).finish(now + 3 * rng.random(), value)
    assert judge(history).ok
    last = max(i for i, op in enumerate(history.operations) if op.kind == "read")
    history.operations[last].value = "v0"
    assert not judge(history).ok


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    ops: list[Operation] = []
    values: list[str | None] = [None]
    for number in range(draw(st.integers(1, 6))):
        call = draw(st.integers(0, 12))
        end = call + draw(st.integers(1, 6))
        if draw(st.booleans()):
            values.append(f"v{number}")
            ops.append(write(f"v{number}", call, math.inf if draw(st.integers(0, 3)) == 0 else end))
        else:
            ops.append(read(draw(st.sampled_from(values)), call, end))
    return ops


def brute(ops: Sequence[Operation]) -> bool:
    """Whether any order of the answered operations and any choice of the others is a register's."""
    must = [op for op in ops if op.returned < math.inf]
    may = [op for op in ops if op.returned == math.inf]
    for size in range(len(may) + 1):
        for extra in itertools.combinations(may, size):
            if any(_legal(order) for order in itertools.permutations([*must, *extra])):
                return True
    return False


def _legal(order: Sequence[Operation]) -> bool:
    value: str | None = None
    for place, op in enumerate(order):
        if any(later.returned < op.call for later in order[place + 1 :]):
            return False
        if op.kind == "write":
            value = op.value
        elif op.value != value:
            return False
    return True


@settings(max_examples=300, deadline=None)
@given(histories())
def test_the_search_agrees_with_trying_everything(ops: list[Operation]) -> None:
    assert judge(History(ops)).ok == brute(ops)


@settings(max_examples=200, deadline=None)
@given(histories())
def test_the_search_alone_refutes_what_is_broken(ops: list[Operation]) -> None:
    if brute(ops):
        assert not unlinearizable(ops)
