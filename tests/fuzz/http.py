"""Bad requests at the engine's socket, a unix one; behind it are the fakes of the engine's tests, with a swarm of two nodes."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
from contextlib import suppress
from pathlib import Path

from agent.engine import app
from common import model
from tests.fuzz.bounds import Account, survived, watched
from tests.fuzz.mutations import mutated
from tests.unit.engine.engine_fakes import World

REQUESTS, TOGETHER = 1000, 100
PATIENCE = 30.0
SILENCE = 0.02
NODES = ("300wtmonao8ij4nj0yazfkfga", "mseqvqglwscezaod1f00byvv3")
SERVICE = {
    "Name": "web",
    "TaskTemplate": {"ContainerSpec": {"Image": "nginx"}, "Networks": [{"Target": "net"}]},
    "Mode": {"Replicated": {"Replicas": 2}},
    "EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": 8080}]},
}
BODIES: tuple[object, ...] = (
    SERVICE, {"Name": "net", "Driver": "overlay"}, {"Name": "c", "Data": "aGVsbG8="}, {"ListenAddr": "0.0.0.0"}, {}, [], None, 7, "x",
)  # fmt: skip
GETS = (
    "/_ping", "/version", "/info", "/nodes", "/services", "/tasks", "/networks", "/configs", "/secrets", "/swarm", "/images/json",
    "/containers/json", "/events", "/system/df", "/nodes/self", "/networks/ingress", "/containers/x/json", "/containers/x/logs?stdout=1",
    "/services/web/logs?stdout=1&follow=1", "/distribution/nginx/json", "/images/nginx/json", "/volumes", "/plugins", "/swarm/unlockkey",
)  # fmt: skip
POSTS = (
    "/services/create", "/networks/create", "/configs/create", "/swarm/init", "/swarm/join", "/swarm/leave", "/swarm/update?version=1",
    "/services/web/update?version=1", "/nodes/self/update?version=1", "/containers/create", "/containers/x/start", "/containers/x/attach",
    "/exec/x/start", "/images/create?fromImage=nginx", "/images/load", "/build", "/auth", "/session", "/grpc", "/networks/prune",
)  # fmt: skip
QUERIES = (
    "filters=%7B%22name%22%3A%7B%22x%22%3Atrue%7D%7D", "filters=[", "filters={}", "filters=" + "%5B" * 3000, "all=1&limit=-1", "since=x",
    "version=99999999999999999999999", "tail=-5", "%ff%fe=%00", "a=b&a=c&=&&", "x=" + "y" * 5000, "timestamps=1&until=1e400",
)  # fmt: skip
UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"


def target(rng: random.Random, path: str) -> str:
    prefix = rng.choice(("", "", "/v1.50", "/v1.41", "/v1.24", "/v1.99", "/v", "/v1", "//"))
    query = rng.choice(QUERIES) if rng.random() < 0.3 else ""
    return prefix + path + (("&" if "?" in path else "?") + query if query else "")


def good(rng: random.Random) -> bytes:
    """Well formed, whatever it asks for."""
    if rng.random() < 0.5:
        method = rng.choice(("GET", "GET", "GET", "HEAD", "DELETE"))
        more = UPGRADE if rng.random() < 0.1 else ""
        return f"{method} {target(rng, rng.choice(GETS))} HTTP/1.1\r\nHost: docker\r\n{more}\r\n".encode()
    body = json.dumps(rng.choice(BODIES)).encode()
    if rng.random() < 0.2:
        body = mutated(rng, body)
    head = f"POST {target(rng, rng.choice(POSTS))} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n"
    if rng.random() < 0.2:
        head += UPGRADE
    if rng.random() < 0.2:
        head += "Expect: 100-continue\r\n"
    if rng.random() < 0.3:
        head += "X-Registry-Auth: " + rng.choice(("e30=", "!!!", "e" * 4000, "")) + "\r\n"
    if rng.random() < 0.3:
        return head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(rng, body)
    return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(rng: random.Random, body: bytes) -> bytes:
    middle = rng.randrange(len(body) + 1)
    parts = [part for part in (body[:middle], body[middle:]) if part]
    more = rng.choice((b"", b";a=b", b";" + b"e" * 3000))
    return b"".join(b"%x%s\r\n%s\r\n" % (len(part), more, part) for part in parts) + b"0\r\n\r\n"


def odd(rng: random.Random) -> bytes:
    """Made to be a trap."""
    host = b"Host: docker\r\n"
    post = b"POST /services/create HTTP/1.1\r\nContent-Type: application/json\r\n" + host
    chunks = post + b"Transfer-Encoding: chunked\r\n\r\n"
    deep = b"[" * 100_000
    return rng.choice((
        b"GET /_ping HTTP/1.1\r\n" + host + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\n" + host + b"".join(b"X-%d: y\r\n" % n for n in range(3000)) + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + host + b"\r\n",
        b"GET /_ping HTTP/1.1\r\n" + host + b"X: a\r\n b\r\n\r\n",
        b"GET /_ping HTTP/9.9\r\n" + host + b"\r\n",
        b"GET http://elsewhere/_ping HTTP/1.1\r\n" + host + b"\r\n",
        b"CONNECT docker:1 HTTP/1.1\r\n" + host + b"\r\n" + rng.randbytes(50),
        b"OPTIONS * HTTP/1.1\r\n" + host + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + rng.randbytes(40),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(100),
        b"GET /_ping HTTP/1.1\r\n\r\n", b"GET /_ping\r\n\r\n", b"\r\n" * 200, b"\0" * 200, b"GET\r\n",
        post + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}{}{}",
        post + b"Content-Length: -1\r\n\r\n{}", post + b"Content-Length: 99999999999999999999\r\n\r\n{}",
        post + b"Content-Length: 100000000\r\n\r\n{}",
        post + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        post + b"Content-Length: %d\r\n\r\n" % len(deep) + deep,
        chunks + b"ffffffffffffffffff\r\n{}\r\n", chunks + b"-2\r\n{}\r\n", chunks + b"zz\r\n{}\r\n", chunks + b"2\r\n{}xx0\r\n\r\n",
        chunks + b"1\r\n{\r\n" * 300, chunks + b"2;" + b"x" * 100_000 + b"\r\n{}\r\n0\r\n\r\n",
        chunks + b"2\r\n{}\r\n0\r\n" + b"Trailer: x\r\n" * 2000 + b"\r\n",
        post + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        post + b"Content-Encoding: deflate\r\nContent-Length: 2\r\n\r\n{}",
        post + b"Content-Encoding: gzip\r\nContent-Length: 20\r\n\r\n" + rng.randbytes(20),
        b"POST /exec/x/start HTTP/1.1\r\n" + host + UPGRADE.encode() + b"Content-Length: 2\r\n\r\n{}" + rng.randbytes(500),
        b"POST /containers/x/attach?stream=1&stdin=1 HTTP/1.1\r\n" + host + UPGRADE.encode() + b"\r\n" + rng.randbytes(500),
        b"POST /session HTTP/1.1\r\n" + host + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + rng.randbytes(500),
        b"GET /events HTTP/1.1\r\n" + host + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
    ))  # fmt: skip


def bad(rng: random.Random) -> bytes:
    kind = rng.randrange(10)
    if kind == 0:
        return rng.randbytes(rng.randrange(200))
    if kind < 3:
        return odd(rng)
    return mutated(rng, good(rng)) if kind < 7 else good(rng)


class Room:
    """The engine's socket, and those who write to it."""

    def __init__(self, rng: random.Random, path: str, account: Account) -> None:
        self._rng = rng
        self._path = path
        self._account = account

    async def run(self) -> None:
        world = World()
        if self._rng.random() < 0.7:
            world.swarm.become()
            for number, node_id in enumerate(NODES):
                world.manager.add(
                    model.Node(
                        id=node_id, version=number, description=model.NodeDescription(hostname=f"n{number}")
                    )
                )
        async with app.serve(world.engine, self._path):
            left = REQUESTS
            while left:
                sizes = [self._rng.randrange(1, 4) for _ in range(TOGETHER)]
                if sum(sizes) > left:
                    sizes = [1] * min(TOGETHER, left)
                left -= sum(sizes)
                self._account.inputs += sum(sizes)
                several = [b"".join(bad(self._rng) for _ in range(size)) for size in sizes]
                await asyncio.gather(*(self._connection(data) for data in several))
                await self._lives()

    async def _connection(self, data: bytes) -> None:
        """Requests, one behind the other; answers as long as any come."""
        reader, writer = await asyncio.open_unix_connection(self._path)
        try:
            writer.write(data)
            with suppress(OSError, TimeoutError):
                while True:
                    async with asyncio.timeout(SILENCE):
                        await writer.drain()
                        if not await reader.read(1 << 16):
                            break
                    self._account.answers += 1
        finally:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    async def _lives(self) -> None:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_unix_connection(self._path)
            writer.write(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
        if not answer.startswith(b"HTTP/1.1 200") or not answer.endswith(b"OK"):
            self._account.faults.append(f"answered {answer!r}")


async def batch(seed: int) -> Account:
    """A thousand of them."""
    with tempfile.TemporaryDirectory() as folder, watched() as account:
        await survived(Room(random.Random(seed), str(Path(folder) / "docker.sock"), account).run(), account)
    return account
