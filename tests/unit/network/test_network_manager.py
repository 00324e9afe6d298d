"""Which namespaces a reconciliation reads afresh (agent/network/manager.py); the rest needs a kernel: tests/lab."""

from hypothesis import given
from hypothesis import strategies as st

from agent.network.manager import next_turn

NAMES = st.sets(st.text("abcdef", min_size=1, max_size=4), max_size=40).map(sorted)


@given(NAMES, st.integers(1, 9))
def test_everybody_has_a_turn_once_a_round(names: list[str], count: int) -> None:
    seen: list[str] = []
    last = ""
    for _ in range(-(-len(names) // count)):
        turn, last = next_turn(names, last, count)
        assert len(turn) <= count
        seen += turn
    assert seen == names
    assert last == ""


@given(NAMES, st.text("abcdef", max_size=4), st.integers(1, 9))
def test_names_that_went_do_not_stop_the_round(names: list[str], last: str, count: int) -> None:
    turn, _ = next_turn(names, last, count)
    assert bool(turn) == bool(names)
