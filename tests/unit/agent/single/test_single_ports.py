"""Which of this node's ports a container gets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.network.bridges import Binding
from agent.single import ports
from agent.single.record import PortRequest, SingleRecord
from common import errors

RECORD = SingleRecord("c" * 64, "one")
ANY = "0.0.0.0"


async def given(
    record: SingleRecord, *held: Binding, busy: tuple[int, ...] = ()
) -> list[tuple[str, str, int, int]]:
    async def taken(binding: Binding) -> bool:
        return binding.port in busy

    found = await ports.allocate(record, lambda: held, taken)
    return [(b.protocol, b.address, b.port, b.target) for b in found]


async def test_what_is_asked_for() -> None:
    record = replace(
        RECORD,
        ports=(PortRequest("tcp", 80, "", 8080, 8080), PortRequest("udp", 80, "127.0.0.1", 8080, 8080)),
    )
    assert await given(record) == [("tcp", ANY, 8080, 80), ("udp", "127.0.0.1", 8080, 80)]


async def test_where_no_address_is_named_the_networks_own_counts() -> None:
    async def taken(binding: Binding) -> bool:
        return False

    requests = (PortRequest("tcp", 80, "", 8080, 8080), PortRequest("tcp", 81, "192.0.2.1", 8081, 8081))
    found = await ports.allocate(replace(RECORD, ports=requests), tuple, taken, "127.0.0.1")
    assert [b.address for b in found] == ["127.0.0.1", "192.0.2.1"]


async def test_both_families() -> None:
    """What names no address is published at all of both, with one number."""

    async def taken(binding: Binding) -> bool:
        return (binding.address, binding.port) == ("::", 49153)

    requests = (
        PortRequest("tcp", 80, "", 8080, 8080),
        PortRequest("tcp", 81),
        PortRequest("tcp", 82, "::1", 5, 5),
    )
    record = replace(RECORD, ports=requests)
    found = await ports.allocate(record, tuple, taken, six=True)
    assert [(b.address, b.port, b.target) for b in found] == [
        (ANY, 8080, 80), ("::", 8080, 80), (ANY, 49154, 81), ("::", 49154, 81), ("::1", 5, 82),
    ]  # fmt: skip
    found = await ports.allocate(replace(record, ports=requests[:1]), tuple, taken, "127.0.0.1", True)
    assert [b.address for b in found] == ["127.0.0.1"]
    for held, text in (("::1", ":::8080"), ("127.0.0.1", "0.0.0.0:8080")):
        other = Binding("tcp", held, 8080, 1)
        with pytest.raises(errors.ShoalError, match=f"^Bind for {text} failed: port is already allocated$"):
            await ports.allocate(record, lambda b=other: (b,), taken, six=True)  # type: ignore[misc]
    with pytest.raises(errors.ShoalError, match=r"publishing on \[::1\] is not supported"):
        await given(record)


async def test_any_that_is_free() -> None:
    record = replace(RECORD, ports=(PortRequest("tcp", 80), PortRequest("tcp", 81)))
    other = Binding("tcp", ANY, 49153, 80)
    assert [port for _, _, port, _ in await given(record, other, busy=(49155,))] == [49154, 49156]


async def test_one_of_a_range() -> None:
    record = replace(RECORD, ports=(PortRequest("tcp", 80, "", 8000, 8002),))
    held = Binding("tcp", "192.0.2.1", 8000, 80)
    assert await given(record, held) == [("tcp", ANY, 8001, 80)]
    with pytest.raises(errors.ShoalError, match="all ports are allocated"):
        await given(record, held, busy=(8001, 8002))


async def test_all_that_is_exposed_and_not_named() -> None:
    record = replace(
        RECORD,
        ports=(PortRequest("tcp", 80, "", 8080, 8080),),
        publish_all=True,
        exposed=("80/tcp", "53/udp", "7", "x"),
    )
    assert await given(record) == [("tcp", ANY, 8080, 80), ("tcp", ANY, 49153, 7), ("udp", ANY, 49153, 53)]


async def test_clashes() -> None:
    one = PortRequest("tcp", 80, "192.0.2.1", 8080, 8080)
    two = replace(one, address="127.0.0.1")
    assert len(await given(replace(RECORD, ports=(one, two)))) == 2
    for held, busy in (((Binding("tcp", ANY, 8080, 9),), ()), ((), (8080,))):
        with pytest.raises(
            errors.ShoalError, match=r"^Bind for 192\.0\.2\.1:8080 failed: port is already allocated$"
        ):
            await given(replace(RECORD, ports=(one,)), *held, busy=busy)
    with pytest.raises(errors.ShoalError, match=r"^Bind for 0\.0\.0\.0:8080 failed"):
        await given(replace(RECORD, ports=(two, replace(one, address=""))))
