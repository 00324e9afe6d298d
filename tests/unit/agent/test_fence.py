"""Fences: a lower one is refused, an equal or higher one taken."""

from hypothesis import given
from hypothesis import strategies as st

from agent import fence
from common import model

_numbers = st.integers(0, 3)
_fences = st.builds(model.Fence, st.just("c1"), _numbers, _numbers, _numbers)


@given(_fences, _fences)
def test_taken_exactly_when_not_lower(seen: model.Fence, offered: model.Fence) -> None:
    assert (fence.refusal(seen, offered) is None) == (fence.order(offered) >= fence.order(seen))


def test_reasons_name_what_is_lower() -> None:
    seen = model.Fence("c1", 2, 5, 100)
    assert "epoch 1 is lower than 2" in str(fence.refusal(seen, model.Fence("c1", 1, 9, 900)))
    assert "term 4 is lower than 5" in str(fence.refusal(seen, model.Fence("c1", 2, 4, 900)))
    assert "index 99 is lower than 100" in str(fence.refusal(seen, model.Fence("c1", 2, 5, 99)))
    assert fence.refusal(seen, model.Fence("c1", 3, 1, 1)) is None


def test_another_cluster_is_refused_whatever_its_numbers() -> None:
    assert "cluster c2" in str(fence.refusal(model.Fence("c1"), model.Fence("c2", 9, 9, 9)))
    assert "without an id" in str(fence.refusal(model.Fence("c1"), model.Fence("", 9, 9, 9)))
    assert fence.refusal(model.Fence(), model.Fence("c2", 0, 0, 0)) is None
