"""Asking for a check, and answers that come, are refused, or never come."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.check import modules
from agent.check.checks import Checks
from agent.check.inside import addresses_in, checksum, echo, question
from common import errors, model


def checks() -> tuple[Checks, list[model.AgentMessage]]:
    told: list[model.AgentMessage] = []
    insight: Any = None
    made = Checks(insight, lambda: "n1", tuple, lambda: 0, iter(("c1", "c2")).__next__)

    def tell(message: model.AgentMessage) -> bool:
        told.append(message)
        return True

    made.tell = tell
    return made, told


async def test_an_answer() -> None:
    made, told = checks()
    asking = asyncio.create_task(made.ask("net"))
    await asyncio.sleep(0)
    assert told == [model.AgentMessage(ask=model.CheckAsk("c1", "net"))]
    made.answered(model.NetworkCheck(id="another's"))
    made.answered(model.NetworkCheck(id="c1", mtu=1450))
    made.answered(model.NetworkCheck(id="c1", mtu=1))
    assert (await asking).mtu == 1450


async def test_a_refusal_is_the_managers_own() -> None:
    made, _ = checks()
    asking = asyncio.create_task(made.ask("net"))
    await asyncio.sleep(0)
    made.answered(model.NetworkCheck(id="c1", code="NotFound", error="network net not found"))
    with pytest.raises(errors.NotFound, match="network net not found"):
        await asking


async def test_a_session_that_ends_meanwhile() -> None:
    made, _ = checks()
    asking = asyncio.create_task(made.ask("net"))
    await asyncio.sleep(0)
    made.disconnected()
    with pytest.raises(errors.Unavailable, match="try again"):
        await asking


async def test_without_a_session() -> None:
    made, _ = checks()
    made.tell = lambda message: False
    with pytest.raises(errors.Unavailable, match="no session with a manager"):
        await made.ask("net")


async def test_orders_of_a_check_that_is_not_known_are_passed_over() -> None:
    made, told = checks()
    running = asyncio.create_task(made.run())
    made.ordered(model.CheckOrder("late", model.CheckPhase.CHECK_TELL))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not told
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_what_a_kernel_lacks() -> None:
    lists = ["kernel/net/bridge/bridge.ko\n", "kernel/drivers/net/vxlan/vxlan.ko.xz: kernel/net/a.ko\n"]
    needed = ("bridge", "vxlan", "nf_tables", "nft_nat", "veth")
    assert modules.absent(needed, ["nf_tables"], lists) == ["nft_nat", "veth"]
    assert modules.absent(["nf_nat"], [], ["kernel/net/netfilter/nf-nat.ko\n"]) == []


def test_nothing_is_said_of_a_kernel_whose_lists_are_not_there(tmp_path: Any) -> None:
    assert modules.missing(tmp_path) == []


def test_a_question_and_its_answer() -> None:
    asked = question(7, "web")
    assert asked == bytes.fromhex("0007 0100 0001 0000 0000 0000 03776562 00 0001 0001")
    record = bytes.fromhex("c00c 0001 0001 00000005 0004 0a000102")
    other = bytes.fromhex("c00c 001c 0001 00000005 0010") + bytes(16)
    assert addresses_in(asked + other + record, len(asked)) == {"10.0.1.2"}
    assert addresses_in(asked + record[:-1], len(asked)) == set()


def test_an_echo_has_its_checksum() -> None:
    packet = echo(0x1234, 1)
    assert packet[0] == 8 and packet[4:8] == bytes.fromhex("12340001")
    assert checksum(packet) == 0
