"""The window of what is under way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.raft.core.errors import Inconsistent
from manager.raft.core.inflights import Inflights


def test_full_by_number():
    window = Inflights(2)
    window.add(5, 100)
    assert not window.full
    window.add(7, 100)
    assert window.full
    with pytest.raises(Inconsistent):
        window.add(8, 1)
    window.free_to(4)
    assert window.full
    window.free_to(6)
    assert (len(window), window.bytes) == (1, 100)
    window.reset()
    assert (len(window), window.bytes, window.full) == (0, 0, False)


def test_full_by_bytes_with_the_one_that_goes_over():
    window = Inflights(10, 50)
    window.add(1, 49)
    assert not window.full
    window.add(2, 500)
    assert window.full


def test_a_clone_lives_its_own_life():
    window = Inflights(3)
    window.add(1, 1)
    other = window.clone()
    other.add(2, 1)
    assert (len(window), len(other)) == (1, 2)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 9), st.integers(0, 30))),
    st.integers(1, 5),
    st.integers(0, 60),
)
def test_like_a_list(steps, size, max_bytes):
    window = Inflights(size, max_bytes)
    model: list[tuple[int, int]] = []
    last = 0
    for add, step, weight in steps:
        if add and not window.full:
            last += step
            window.add(last, weight)
            model.append((last, weight))
        elif not add:
            window.free_to(last - step)
            model = [item for item in model if item[0] > last - step]
        held = sum(weight for _, weight in model)
        assert (len(window), window.bytes) == (len(model), held)
        assert window.full == (len(model) >= size or (max_bytes > 0 and held >= max_bytes))
