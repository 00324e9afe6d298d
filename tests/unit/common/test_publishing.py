"""Labels that say how ports are published."""

from __future__ import annotations

import pytest

from common import publishing


def test_addresses() -> None:
    assert publishing.addresses({}) == ()
    assert publishing.addresses({"shoal.publish.address": " 127.0.0.1, 10.1.2.3/8 ,10.9.0.0/16"}) == (
        "10.0.0.0/8", "127.0.0.1",
    )  # fmt: skip
    assert publishing.addresses({"shoal.publish.address": "[::1],fd00:1::/64, 10.1.2.3,fd00::/8"}) == (
        "10.1.2.3", "::1", "fd00::/8",
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"label shoal\.publish\.address: .*'::g'"):
        publishing.addresses({"shoal.publish.address": "::g"})


@pytest.mark.parametrize(
    ("text", "wanted"), [("true", True), ("1", True), ("", False), ("False", False), ("no", False)]
)
def test_masquerade(text: str, wanted: bool) -> None:
    assert publishing.masquerade({"shoal.publish.masquerade": text}) is wanted
    assert publishing.masquerade({}) is False
