"""Proposals of 512 bytes on three managers beside a three-member etcd, in one run, in alternating order (by hand).

    python -m benchmarks.consensus [--rounds N] [--seconds S] [--file FILE]

Both run on this host's loopback, with mutual TLS between members and towards clients. etcd is written to over gRPC by
one client in this process; Shoal through the store of its leader, which is where all writes of a swarm come from. Raw
figures go to a JSON file, after each round; the table to standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc.aio

from benchmarks.results import FOLDER, environment
from common import joining, model, pki, rpc
from common.model.stubs import ControlStub, LocalStub

SIZE = 512
DEADLINE = 60.0
PUT = "/etcdserverpb.KV/Put"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    end = time.monotonic() + DEADLINE
    while not await condition():
        if time.monotonic() > end:
            raise SystemExit(f"not within {DEADLINE:.0f} s: {what}")
        await asyncio.sleep(0.1)


class Etcd:
    """Three members of Debian's etcd."""

    name = "etcd"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.stub: Any = None
        self.channel: grpc.aio.Channel | None = None

    async def start(self) -> None:
        self._certificates()
        tls = [f"--{kind}{what}={self.folder}/{file}" for kind in ("", "peer-")
               for what, file in (("cert-file", "crt.pem"), ("key-file", "key.pem"), ("trusted-ca-file", "ca.pem"))]  # fmt: skip
        ports = [(free_port(), free_port()) for _ in range(3)]
        members = ",".join(f"m{i}=https://127.0.0.1:{peer}" for i, (_, peer) in enumerate(ports))
        for i, (client, peer) in enumerate(ports):
            self.processes.append(
                begin(
                    ["etcd", "--name", f"m{i}", "--data-dir", f"{self.folder}/etcd{i}", *tls, "--client-cert-auth",
                     "--peer-client-cert-auth", "--logger=zap", "--log-level=error",
                     f"--listen-client-urls=https://127.0.0.1:{client}", f"--advertise-client-urls=https://127.0.0.1:{client}",
                     f"--listen-peer-urls=https://127.0.0.1:{peer}", f"--initial-advertise-peer-urls=https://127.0.0.1:{peer}",
                     f"--initial-cluster={members}"],
                    subprocess.DEVNULL,
                )
            )  # fmt: skip
        read = [(self.folder / f).read_bytes() for f in ("ca.pem", "key.pem", "crt.pem")]
        self.channel = grpc.aio.secure_channel(
            f"127.0.0.1:{ports[0][0]}", grpc.ssl_channel_credentials(*read)
        )
        self.stub = self.channel.unary_unary(PUT)
        await until(self._answers, "etcd takes a write")

    def _certificates(self) -> None:
        """A root and one certificate for 127.0.0.1, by openssl."""
        make = (
            "openssl ecparam -name prime256v1 -genkey -noout -out ca-key.pem; "
            "openssl req -x509 -new -key ca-key.pem -subj /CN=ca -days 2 -out ca.pem; "
            "openssl ecparam -name prime256v1 -genkey -noout -out key.pem; "
            "openssl req -new -key key.pem -subj /CN=etcd -out req.pem; "
            "printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\\n' > ext; "
            "openssl x509 -req -in req.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile ext -out crt.pem"
        )
        subprocess.run(["sh", "-ec", make], cwd=self.folder, check=True, capture_output=True)

    async def _answers(self) -> bool:
        try:
            await self.stub(put(0), timeout=2)
        except grpc.aio.AioRpcError:
            return False
        return True

    async def write(self, count: int, at_once: int) -> dict[str, Any]:
        taken, left = list[float](), iter(range(count))

        async def writer() -> None:
            for number in left:
                began = time.perf_counter()
                await self.stub(put(number))
                taken.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(writer() for _ in range(at_once)))
        return {"seconds": time.perf_counter() - began, "taken": taken}

    async def stop(self) -> None:
        if self.channel is not None:
            await self.channel.close()
        end(self.processes)


def put(number: int) -> bytes:
    """A PutRequest whose key and value are SIZE bytes together."""
    key = b"bench-%010d" % number
    value = b"x" * (SIZE - len(key))
    length = len(value)
    return b"\x0a" + bytes([len(key)]) + key + b"\x12" + bytes([length & 0x7F | 0x80, length >> 7]) + value


class Shoal:
    """Three managers, joined as `swarm join` does it."""

    name = "shoal"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []

    async def start(self) -> None:
        addr, token = await self.init()
        for i in (1, 2):
            await self.launch(i)
            await self.join(i, addr, token)
        await until(self._agreed, "three voters")

    async def init(self) -> tuple[str, str]:
        """The first manager; gives its address, and the token of those that join it."""
        await self.launch(0)
        addr = f"127.0.0.1:{free_port()}"
        async with rpc.client(f"unix://{self.folder}/m0.sock") as channel:
            request = model.InitRequest(
                listen_addr=addr,
                advertise_addr=addr,
                csr=pki.create_csr(pki.new_key()),
                hostname="m0",
                machine="m0",
            )
            await LocalStub(channel).Init(request, timeout=30, wait_for_ready=True)
            cluster = (await ControlStub(channel).GetCluster(model.Nothing(), timeout=30)).cluster
        return addr, cluster.root_ca.join_tokens.manager

    async def launch(self, i: int) -> None:
        command = [
            sys.executable, "-m", "benchmarks.consensus_manager", f"{self.folder}/m{i}", f"{self.folder}/m{i}.sock",
        ]  # fmt: skip
        self.processes.append(begin(command, subprocess.PIPE))

    async def join(self, i: int, addr: str, token: str) -> None:
        key, own = pki.new_key(), f"127.0.0.1:{free_port()}"
        reply = await joining.join(
            addr, token, pki.create_csr(key), f"m{i}", f"m{i}", advertise_addr="127.0.0.1"
        )
        request = model.JoinRequest(
            reply.node_id, reply.cluster_id, own, own, (addr,), reply.certificate, pki.key_pem(key)
        )
        async with rpc.client(f"unix://{self.folder}/m{i}.sock") as channel:
            await LocalStub(channel).Join(request, timeout=60, wait_for_ready=True)

    def ask(self, i: int, **asked: Any) -> Any:
        process = self.processes[i]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    async def _agreed(self) -> bool:
        found = [self.ask(i, do="status") for i in range(3)]
        return all(f["voters"] == 3 for f in found) and any(f["leads"] for f in found)

    async def write(self, count: int, at_once: int) -> dict[str, Any]:
        leads = next(i for i in range(3) if self.ask(i, do="status")["leads"])
        found: dict[str, Any] = await asyncio.to_thread(
            lambda: self.ask(leads, do="write", count=count, at_once=at_once, bytes=SIZE)
        )
        return found

    async def stop(self) -> None:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
        end(self.processes)


def begin(command: list[str], pipe: int) -> subprocess.Popen[bytes]:
    """A process of one side; what it says of itself goes nowhere, or comes by `pipe`."""
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=None if pipe == subprocess.PIPE else pipe
    )


def end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


WORK = {"sequential": (1, 2000), "256 at once": (256, 20_000)}


async def rounds(sides: list[Any], count: int, raw: dict[str, Any], path: Path) -> None:
    for turn in range(count):
        for name, (at_once, writes) in WORK.items():
            for side in sides if turn % 2 else sides[::-1]:
                found = await side.write(writes, at_once)
                taken = sorted(found["taken"])
                one = {
                    "round": turn, "work": name, "side": side.name, "per_second": writes / found["seconds"],
                    "p50_ms": 1e3 * taken[len(taken) // 2], "p99_ms": 1e3 * taken[len(taken) * 99 // 100],
                }  # fmt: skip
                raw["repetitions"].append(one)
                keep(raw, path)
                print(f"round {turn}: {name:12} {side.name:6} {one['per_second']:9.0f}/s  "
                      f"p50 {one['p50_ms']:6.2f} ms  p99 {one['p99_ms']:6.2f} ms", flush=True)  # fmt: skip


def keep(raw: dict[str, Any], path: Path) -> None:
    """What was measured so far."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(raw, indent=1) + "\n")


def table(raw: dict[str, Any]) -> str:
    """Medians and spread of each side, and the ratio of the medians."""
    lines = ["| 512 B, three members | etcd | Shoal | Shoal / etcd |", "|---|---|---|---|"]
    for name in WORK:
        cells, middle = [], []
        for side in ("etcd", "shoal"):
            mine = [r for r in raw["repetitions"] if r["work"] == name and r["side"] == side]
            rates = [r["per_second"] for r in mine]
            p50 = statistics.median(r["p50_ms"] for r in mine)
            middle.append(statistics.median(rates))
            cells.append(f"{middle[-1]:,.0f}/s ({min(rates):,.0f}–{max(rates):,.0f}), p50 {p50:.2f} ms")
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {middle[1] / middle[0]:.2f} |")
    return "\n".join(lines)


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--file", type=Path)
    given = parser.parse_args()
    if shutil.which("etcd") is None:
        raise SystemExit("etcd is not installed: apt install etcd-server")
    now = dt.datetime.now(dt.UTC)
    about = environment()
    raw = {"began": now.isoformat(timespec="seconds"), "about": about, "repetitions": []}
    path = given.file or FOLDER / f"{now:%Y-%m-%d}-{about['commit']}-consensus.json"
    folder = Path(tempfile.mkdtemp(prefix="consensus-", dir=os.environ.get("TMPDIR", "/var/tmp")))
    sides: list[Any] = [Etcd(folder), Shoal(folder)]
    try:
        for side in sides:
            await side.start()
        await rounds(sides, given.rounds, raw, path)
    finally:
        for side in sides:
            await side.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(table(raw))


if __name__ == "__main__":
    asyncio.run(main())
