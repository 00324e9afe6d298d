"""What goes over the kernel's IPsec socket, byte by byte."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.network import xfrm
from agent.network.facts import SealPolicy, SealState

ADDRESSES = st.ip_addresses(v=4).map(str).filter(lambda a: a != "0.0.0.0")
STATES = st.builds(
    SealState, ADDRESSES, ADDRESSES, st.integers(256, 2**32 - 1), st.binary(min_size=20, max_size=20)
)
POLICIES = st.one_of(
    st.sampled_from((SealPolicy("in"), SealPolicy("out"))),
    st.builds(SealPolicy, st.just("out"), ADDRESSES, ADDRESSES, st.integers(256, 2**32 - 1)),
)


@given(STATES)
def test_states(fact: SealState) -> None:
    assert xfrm.parsed_state(xfrm.packed_state(fact)) == fact


@given(POLICIES)
def test_policies(fact: SealPolicy) -> None:
    assert xfrm.parsed_policy(xfrm.packed_policy(fact)) == fact


def test_sizes_are_the_kernels() -> None:
    """struct xfrm_usersa_info, xfrm_userpolicy_info and xfrm_user_tmpl, and the attributes' headers."""
    state = SealState("192.0.2.1", "192.0.2.2", 0x102, bytes(range(20)))
    assert len(xfrm.packed_state(state)) == 224 + 4 + 72 + 20
    assert len(xfrm.packed_policy(SealPolicy("out"))) == 168
    assert len(xfrm.packed_policy(SealPolicy("in"))) == 168 + 4 + 64


def test_places_of_what_matters() -> None:
    body = xfrm.packed_state(SealState("192.0.2.1", "192.0.2.2", 0x102, bytes(range(20))))
    assert body[56:60] == bytes((192, 0, 2, 2))
    assert body[72:77] == bytes((0, 0, 1, 2, 50))
    assert body[80:84] == bytes((192, 0, 2, 1))
    assert body[96:128] == b"\xff" * 32  # no limit by bytes or packets
    assert body[228:245] == b"rfc4106(gcm(aes))"
    assert struct.unpack_from("=II", body, 292) == (160, 128)
    blocked = xfrm.packed_policy(SealPolicy("out"))
    assert blocked[32:36] == struct.pack("!HH", 4790, 0xFFFF)
    assert blocked[160:162] == bytes((1, 1))  # out, block


def test_others_are_left_alone() -> None:
    body = bytearray(xfrm.packed_state(SealState("192.0.2.1", "192.0.2.2", 0x102, bytes(20))))
    body[208:212] = (7).to_bytes(4, "little")  # another's request id
    assert xfrm.parsed_state(bytes(body)) is None
    policy = bytearray(xfrm.packed_policy(SealPolicy("out")))
    policy[32:34] = (500).to_bytes(2, "big")
    assert xfrm.parsed_policy(bytes(policy)) is None
    assert xfrm.parsed_policy(bytes(160) + bytes((2,)) + bytes(7)) is None


def test_a_policy_that_lets_pass_what_ours_would_not_is_none_of_ours() -> None:
    """It is found at our place with an index that no state has, so it is set right."""
    allowed = bytearray(xfrm.packed_policy(SealPolicy("out")))
    allowed[161] = 0
    assert xfrm.parsed_policy(bytes(allowed)) == SealPolicy("out", spi=-1)
    optional = bytearray(xfrm.packed_policy(SealPolicy("in")))
    optional[168 + 4 + 50] = 1
    assert xfrm.parsed_policy(bytes(optional)) == SealPolicy("in", spi=-1)


def test_a_state_at_the_end_of_its_numbers_is_made_anew() -> None:
    """What the kernel shows of it then is no state of the plan."""
    fact = SealState("192.0.2.1", "192.0.2.2", 0x102, bytes(range(20)))

    def with_count(sent: int) -> SealState | None:
        return xfrm.parsed_state(xfrm.packed_state(fact) + struct.pack("=HHIII", 16, 10, sent, 0, 0))

    assert with_count(xfrm.WORN - 1) == fact
    assert with_count(xfrm.WORN) not in (fact, None)


@pytest.mark.parametrize(
    ("number", "module"), [(errno.EPROTONOSUPPORT, "esp4"), (errno.ENOSYS, "gcm"), (errno.ENOENT, "gcm")]
)
def test_what_is_missing(number: int, module: str) -> None:
    assert xfrm.missing_for(OSError(number, "")) == module


def test_another_failure_is_not_a_missing_module() -> None:
    with pytest.raises(PermissionError):
        xfrm.missing_for(PermissionError(errno.EPERM, "no"))
