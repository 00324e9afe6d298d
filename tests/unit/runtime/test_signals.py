"""Signals by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runtime import signals
from common.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGTERM", 15),
        ("term", 15),
        ("9", 9),
        ("SIGRTMIN+3", 37),
        ("RTMAX-1", 63),
        ("SIGRTMIN", 34),
        ("USR1", 10),
    ],
)
def test_known(text: str, number: int) -> None:
    assert signals.parse(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "SIGNOPE", "RTMIN+99", "RTMIN*1", "-1", "9" * 5000])
def test_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid signal: "):
        signals.parse(text)


@given(st.text(max_size=20))
def test_any_text(text: str) -> None:
    try:
        assert 1 <= signals.parse(text) <= 64
    except InvalidArgument:
        return
