"""Load for the lab's tests, run inside its machines and outside (standard library only; one file, piped in or bound).

    load.py count PATH N HOST:PORT…         N new connections to each, answers counted, as JSON
    load.py http RATE HOST:PORT[/PATH]…     RATE new connections a second in all, no retries
    load.py inside RATE NAME HOST:PORT…     the same, and a DNS look-up of NAME for each second connection

`http` and `inside` print "started", go on until standard input closes, but for a second at least, and print their account
as JSON. A connection fails when it is refused, reset, cut short, or not answered within 10 s; a look-up when it is not answered within 20 s.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
import sys
import time
from collections import Counter

LIMIT = 10.0
LOOKUP_LIMIT = 20.0
LEAST_SECONDS, MOST_SECONDS = 1.0, 180.0


async def fetch(host: str, port: int, path: str) -> str:
    """One new connection, one request; the body's first line. Raises OSError or EOFError, also when it is cut short."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        await writer.drain()
        answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise EOFError(f"answered {head[:60]!r}")
    for line in head.splitlines():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and len(body) != int(value):
            raise EOFError(f"{len(body)} bytes of {int(value)}")
    return body.decode().strip().splitlines()[0]


def split(target: str) -> tuple[str, int, str]:
    """Host, port and path; without one it is /whoami."""
    address, _, path = target.partition("/")
    host, _, port = address.rpartition(":")
    return host, int(port), f"/{path or 'whoami'}"


async def count(path: str, number: int, targets: list[str]) -> dict[str, dict[str, int]]:
    """A target's connections all at once: where nobody answers yet, that costs the limit once, not for each."""

    async def one(target: str) -> str:
        host, port, _ = split(target)
        try:
            return await asyncio.wait_for(fetch(host, port, path), LIMIT)
        except (TimeoutError, OSError, EOFError) as exc:
            return f"FAILED {type(exc).__name__}: {exc}"

    return {
        target: Counter(await asyncio.gather(*(one(target) for _ in range(number)))) for target in targets
    }


class Lookups(asyncio.DatagramProtocol):
    """Queries to 127.0.0.11, sent once each and never again; the kernel keeps them while nobody reads."""

    def __init__(self) -> None:
        self.waiting: dict[int, asyncio.Future[int]] = {}
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: object) -> None:
        future = self.waiting.pop(struct.unpack("!H", data[:2])[0], None)
        if future is not None and not future.done():
            future.set_result(data[3] & 15 if struct.unpack("!H", data[6:8])[0] else 99)

    async def ask(self, name: str, number: int) -> int:
        """The answer's code; 0 with at least one record, 99 without."""
        assert self.transport
        ident = number & 0xFFFF
        labels = b"".join(bytes([len(p)]) + p.encode() for p in name.split("."))
        query = struct.pack("!HHHHHH", ident, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", 1, 1)
        self.waiting[ident] = asyncio.get_running_loop().create_future()
        self.transport.sendto(query)
        return await asyncio.wait_for(self.waiting[ident], LOOKUP_LIMIT)


class Account:
    def __init__(self) -> None:
        self.ok = 0
        self.slowest = 0.0
        self.failed: Counter[str] = Counter()
        self.first: list[str] = []
        self.lookups = 0
        self.lookups_failed: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()

    async def connect(self, target: str, began: float) -> None:
        try:
            answer = await asyncio.wait_for(fetch(*split(target)), LIMIT)
            self.ok += 1
            self.answers[answer] += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
        except (TimeoutError, OSError, EOFError) as exc:
            self.failed[f"{target} {type(exc).__name__} {exc}"] += 1
            if len(self.first) < 20:
                self.first.append(f"{time.time():.3f} {target} {type(exc).__name__} {exc}")

    async def look_up(self, lookups: Lookups, name: str, number: int) -> None:
        try:
            code = await lookups.ask(name, number)
            self.lookups += 1
            if code:
                self.lookups_failed[f"code {code}"] += 1
        except TimeoutError:
            self.lookups_failed["no answer"] += 1


async def drive(rate: float, name: str, targets: list[str]) -> dict[str, object]:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_reader(0, lambda: stop.set() if not os.read(0, 4096) else None)
    account, tasks, number = Account(), set(), 0
    lookups = Lookups()
    if name:
        await loop.create_datagram_endpoint(lambda: lookups, remote_addr=("127.0.0.11", 53))
    print("started", flush=True)
    began = loop.time()
    while loop.time() - began < (LEAST_SECONDS if stop.is_set() else MOST_SECONDS):
        due = int((loop.time() - began) * rate)
        while number < due:
            work = [account.connect(targets[number % len(targets)], time.monotonic())]
            if name and number % 2:
                work.append(account.look_up(lookups, name, number))
            for one in work:
                task = loop.create_task(one)
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            number += 1
        await asyncio.sleep(1 / rate)
    await asyncio.gather(*tasks)
    return {
        "ok": account.ok, "failed": account.failed, "first": account.first, "slowest": round(account.slowest, 3),
        "lookups": account.lookups, "lookups_failed": account.lookups_failed, "answers": account.answers,
    }  # fmt: skip


def main(argv: list[str]) -> None:
    if argv[0] == "count":
        account: object = asyncio.run(count(argv[1], int(argv[2]), argv[3:]))
    elif argv[0] == "http":
        account = asyncio.run(drive(float(argv[1]), "", argv[2:]))
    elif argv[0] == "inside":
        account = asyncio.run(drive(float(argv[1]), argv[2], argv[3:]))
    else:
        raise SystemExit(__doc__)
    print(json.dumps(account))


if __name__ == "__main__":
    main(sys.argv[1:])
