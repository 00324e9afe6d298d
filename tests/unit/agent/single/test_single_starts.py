"""Single containers whose start fails, or whose end cannot be carried out at once: what is told, and what is tried again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from agent.network.api import Sandbox
from agent.runtime.api import ContainerEvent, EventKind, Status
from agent.single.record import PortRequest
from common import errors
from tests.unit.agent.single.single_bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize(
    ("refusal", "text"),
    [
        (OSError(99, "Cannot assign requested address"), "cannot assign requested address"),
        (OSError(2, "No such file or directory", "/proc/7/ns/net"), "/proc/7/ns/net: no such file or directory"),
        (NetlinkError(16, "busy"), "device or resource busy"),
        (TimeoutError(), "timed out"),
        (errors.NotFound("network net not found"), "network net not found"),
    ],
)  # fmt: skip
async def test_what_the_kernel_refuses_is_told_in_words(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, refusal: Exception, text: str
) -> None:
    one = await bench.create("one")

    async def attach_local(id: str) -> Sandbox:
        raise refusal

    with monkeypatch.context() as patched:
        patched.setattr(bench.network, "attach_local", attach_local)
        with pytest.raises(errors.ShoalError) as raised:
            await bench.singles.start(one)
    assert (raised.value.message, raised.value.status) == (text, 500)
    record = bench.memory.rows[one]
    assert (record.error, record.exit_code, record.sandbox) == (text, 128, "")
    assert bench.runtime.found[one].status is Status.CREATED
    await bench.singles.start(one)
    assert (bench.memory.rows[one].error, bench.memory.rows[one].exit_code) == ("", 0)


@pytest.mark.parametrize(
    ("text", "code", "status"),
    [
        ('exec: "nosuch": executable file not found in $PATH', 127, 400), ("exec: permission denied", 126, 400),
        ("exec: is a directory", 126, 400), ("out of memory", 128, 500),
    ],
)  # fmt: skip
async def test_a_process_that_cannot_be_started(bench: Bench, text: str, code: int, status: int) -> None:
    one = await bench.create("one")
    bench.runtime.fail = errors.ShoalError(text)
    with pytest.raises(errors.ShoalError) as raised:
        await bench.singles.start(one)
    assert (raised.value.message, raised.value.status) == (text, status)
    assert (bench.memory.rows[one].error, bench.memory.rows[one].exit_code) == (text, code)


async def test_a_mount_that_does_not_fit(bench: Bench) -> None:
    one = await bench.create("one")
    bench.runtime.fail = errors.ShoalError("mount `/etc/hostname` to `tmp`: Not a directory: unknown")
    with pytest.raises(errors.InvalidArgument, match=r"directory onto a file .* is the expected type$"):
        await bench.singles.start(one)
    assert bench.memory.rows[one].exit_code == 127


async def test_a_failed_start_keeps_the_code_of_an_end_before(bench: Bench) -> None:
    one = await bench.create("one")
    async with bench.running():
        await bench.singles.start(one)
        await bench.runtime.exit(one, 3)
    bench.network.held = {("tcp", 80)}
    await bench.singles._records.change(
        one, lambda now: replace(now, ports=(PortRequest("tcp", 80, "", 80),))
    )
    with pytest.raises(errors.ShoalError, match="port is already allocated"):
        await bench.singles.start(one)
    assert bench.memory.rows[one].exit_code == 3


async def test_an_address_that_is_not_this_machines(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    one = await bench.create("one", ports=(PortRequest("tcp", 80, "192.0.2.99", 8080),))

    async def busy(address: str, protocol: str, port: int) -> bool:
        raise OSError(99, "Cannot assign requested address")

    monkeypatch.setattr(bench.network, "busy", busy)
    with pytest.raises(errors.ShoalError) as raised:
        await bench.singles.start(one)
    assert raised.value.message == (
        "driver failed programming external connectivity on endpoint name-one (one): "
        "failed to bind host port for 192.0.2.99:8080/tcp: cannot assign requested address"
    )


async def test_what_could_not_be_put_right_is_tried_again(bench: Bench) -> None:
    one, two = await bench.create("one", auto_remove=True), await bench.create("two", restart="always")
    async with bench.running():
        await bench.singles.start(one)
        await bench.singles.start(two)
        bench.network.stuck = [
            NetlinkError(16),
            errors.Internal("no"),
            OSError(16, "Device or resource busy"),
        ]
        await bench.runtime.exit(one)
        await bench.until(lambda: one not in bench.memory.rows)
        bench.network.stuck = [OSError(5, "Input/output error")]
        await bench.runtime.exit(two)
        await bench.until(lambda: bench.memory.rows[two].restarts == 1 and bench.runtime.found[two].pid)
        bench.network.local.add("nobody")
        bench.network.stuck = [errors.Internal("no")]
        await bench.runtime.events.put(ContainerEvent(EventKind.RESYNC, "", 0))
        await bench.until(lambda: bench.network.local == {two})


async def test_a_removal_that_failed_is_finished(bench: Bench) -> None:
    one = await bench.create("one")
    async with bench.running():
        await bench.singles.start(one)
        bench.network.stuck = [errors.Internal("no"), errors.Internal("no")]
        with pytest.raises(errors.Internal):
            await bench.singles.remove(one, force=True)
        await bench.until(lambda: not bench.memory.rows)
    assert bench.runtime.found == {}
