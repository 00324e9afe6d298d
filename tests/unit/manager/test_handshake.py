"""Nodes that connect at the same moment do the manager no harm, whatever changes meanwhile."""

import asyncio
import ssl
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from manager_swarm import ask, client, free_port

from common import model, pki
from common.clock import SystemClock
from manager.ca.service import utc
from manager.handshake import BEGUN, Handshakes, Shown

CALLERS, KNOCKS, ROTATIONS = 16, 8000, 4


@asynccontextmanager
async def own_process(path: Path):
    """A manager in a process of its own, with a swarm: what would end it must not end the tests."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "manager", "--state", f"{path}/state", "--socket", f"{path}/m.sock"),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with client(path / "m.sock") as (local, control):
            addr = f"127.0.0.1:{port}"
            csr = pki.create_csr(pki.new_key())
            await ask(local.Init, model.InitRequest(listen_addr=addr, advertise_addr=addr, csr=csr))
            yield process, port, control
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def knocks(port: int, times: int) -> None:
    """Begins a handshake, and hangs up before it has said a word: that is all that it takes."""
    for _ in range(times):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.transport.abort()


async def handshake(port: int) -> None:
    """A whole one, as far as somebody without a certificate comes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    writer.transport.abort()


async def test_many_nodes_connect_at_once(tmp_path: Path) -> None:
    async with own_process(tmp_path) as (process, port, _):
        async with asyncio.TaskGroup() as callers:
            for _ in range(CALLERS):
                callers.create_task(knocks(port, KNOCKS // CALLERS))
        await handshake(port)
        assert process.returncode is None


async def test_many_nodes_connect_while_tokens_are_rotated(tmp_path: Path) -> None:
    async with own_process(tmp_path) as (process, port, control):
        async with asyncio.TaskGroup() as callers:
            for _ in range(CALLERS):
                callers.create_task(knocks(port, KNOCKS // CALLERS))
            for _ in range(ROTATIONS):
                cluster = (await ask(control.GetCluster, model.Nothing())).cluster
                await ask(
                    control.UpdateCluster,
                    model.UpdateClusterRequest(cluster.version, cluster.spec, rotate_worker_token=True),
                )
        await handshake(port)
        assert process.returncode is None


class Port:
    """A time of its own, and what is shown at it."""

    def __init__(self) -> None:
        now = utc(SystemClock())
        root, key = pki.create_root(now), pki.new_key()
        chain = pki.issue_node(root, pki.create_csr(key), "n" * 25, model.NodeRole.MANAGER, "c" * 25, now)
        self.shown = Shown(pki.key_pem(key), chain, root.cert)
        self.time = 100.0
        self.waits: list[float] = []
        self.during = lambda: None
        self.handshakes = Handshakes(lambda: self.shown, lambda: self.time, self._wait)

    def _wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += seconds
        self.during()

    def ask(self) -> bool:
        found = self.handshakes.news()
        assert found is None or isinstance(found, grpc.ServerCertificateConfiguration)
        return found is not None

    def change(self) -> None:
        self.shown = replace(self.shown, roots=self.shown.roots + self.shown.chain)


def test_only_news_are_told_and_once() -> None:
    port = Port()
    assert [port.ask(), port.ask()] == [False, False]
    port.change()
    assert [port.ask(), port.ask()] == [True, False]


def test_news_wait_for_the_handshakes_before_them() -> None:
    port = Port()
    port.ask()
    port.time += BEGUN / 4
    port.change()
    assert port.ask()
    assert port.waits == [pytest.approx(BEGUN * 3 / 4)]
    port.time += 2 * BEGUN
    port.change()
    assert port.ask()
    assert port.waits[1:] == [0.0], "nobody can be about to begin: nobody waits"


def test_what_changes_during_the_wait_is_told_too() -> None:
    port = Port()
    port.ask()
    port.change()
    port.during = port.change
    assert port.ask()
    assert not port.ask()


def test_the_private_key_is_not_shown_in_logs() -> None:
    port = Port()
    assert repr(port.shown.key) not in repr(port.shown)
