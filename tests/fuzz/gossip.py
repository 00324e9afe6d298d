"""Bad packets and streams at a gossip member with its real sockets, on loopback: plain, and sealed.

Addresses and ports in what is valid are loopback's, where nobody listens. A member takes part that must still be answered at the end.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import suppress

from agent.gossip import frames, messages
from agent.gossip.api import Config
from agent.gossip.keyring import NONCE, Keyring
from agent.gossip.messages import Type, encode
from agent.gossip.node import GossipNode
from agent.gossip.packing import pack
from tests.fuzz.bounds import Account, survived, watched
from tests.fuzz.mutations import mutated
from tests.unit.agent.gossip.compressing import lzw

KEY, STRANGE = b"k" * 16, b"s" * 16
NOBODY = b"\x7f\x09\x09\x09"
CLOSED = 1
PACKETS, STREAMS, TOGETHER = 800, 200, 40
PATIENCE, AGAIN = 20.0, 0.5
BOMB = lzw(bytes(1 << 20))
SMALL_BOMB = lzw(bytes(60_000))
VSN = bytes((1, 5, 2, 2, 5, 4))
LARGEST = 65_000


def compressed(data: bytes) -> bytes:
    return bytes([Type.COMPRESS]) + pack({"Algo": 0, "Buf": data})


def compound(parts: list[bytes]) -> bytes:
    return (
        bytes([Type.COMPOUND, len(parts)])
        + struct.pack(f">{len(parts)}H", *map(len, parts))
        + b"".join(parts)
    )


def valid(rng: random.Random) -> bytes:
    """A message of a packet."""
    name = f"x{rng.randrange(50)}"
    number = rng.choice((0, 1, 5, messages.MAX_U32))
    return rng.choice((
        encode(messages.Ping(number, "target", NOBODY, CLOSED, name)),
        encode(messages.IndirectPing(number, NOBODY, CLOSED, name, True, NOBODY, CLOSED, name)),
        encode(messages.Ack(number, rng.randbytes(4))),
        encode(messages.Nack(number)),
        encode(messages.Suspect(number, rng.choice((name, "target")), "liar")),
        encode(messages.Alive(number, rng.choice((name, "target")), NOBODY, CLOSED, rng.randbytes(9), VSN)),
        encode(messages.Dead(number, rng.choice((name, "target")), rng.choice((name, "liar", "target")))),
        bytes([Type.USER]) + rng.randbytes(rng.randrange(30)),
    ))  # fmt: skip


def bomb(rng: random.Random) -> bytes:
    """Small, and large when it is opened; or nested."""
    kind = rng.randrange(7)
    if kind == 0:
        return compressed(BOMB)
    if kind == 1:
        return compound([compressed(SMALL_BOMB)] * (LARGEST // (len(SMALL_BOMB) + 40)))
    if kind == 2:
        return compressed(lzw(compound([encode(messages.Ack(1))] * 255)))
    data = valid(rng)
    if kind == 3:
        for _ in range(rng.randrange(2, 9)):
            data = compound([data]) if rng.random() < 0.5 else compressed(lzw(data))
        return data
    if kind == 4:
        return bytes([rng.choice(list(Type))]) + rng.choice((b"\x81\xa1a", b"\x91", b"\x81\x81")) * 5000
    if kind == 5:
        return bytes([rng.choice(list(Type))]) + rng.choice((
            b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xde\xff\xff", b"\xdc\x10\x00" + b"\xc0" * 4096,
        ))  # fmt: skip
    return compound([b""] * 255)


def packet(rng: random.Random) -> bytes:
    """Before it is sealed."""
    kind = rng.randrange(10)
    if kind == 0:
        return bomb(rng)
    if kind == 1:
        return rng.randbytes(rng.randrange(1, 200))
    several = [valid(rng) for _ in range(rng.randrange(1, 6))]
    if rng.random() < 0.3:
        several = [mutated(rng, one) for one in several]
    data = frames.packet(several, None, b"", rng.random() < 0.3)
    return mutated(rng, data) if kind < 8 else data


def state(rng: random.Random) -> messages.NodeState:
    return messages.NodeState(
        f"x{rng.randrange(50)}", NOBODY, CLOSED, b"", rng.randrange(3), rng.randrange(6), VSN
    )


def stream(rng: random.Random) -> bytes:
    """One message of a stream, before it is sealed."""
    whole: frames.Whole = rng.choice((
        frames.PushPull(rng.random() < 0.5, tuple(state(rng) for _ in range(rng.randrange(60))), rng.randbytes(20)),
        frames.UserStream(rng.randbytes(rng.randrange(300))),
        messages.Ping(rng.randrange(9), "target", NOBODY, CLOSED, "x1"),
        messages.ErrorReply("no"),
    ))  # fmt: skip
    data = frames.stream(whole, None, b"")
    kind = rng.randrange(8)
    if kind == 0:
        return bomb(rng)
    if kind == 1:
        return compressed(mutated(rng, lzw(data)))
    if kind == 2:
        return compressed(lzw(data))
    return mutated(rng, data) if kind < 7 else data


def sealed(rng: random.Random, data: bytes, head: bool) -> bytes:
    """As a member with the key does it; sometimes with another key, damaged afterwards, or not at all."""
    kind = rng.randrange(6)
    if kind == 0:
        return data
    keyring = Keyring([STRANGE if kind == 1 else KEY])
    bound = struct.pack(">BI", Type.ENCRYPT, len(data) + frames.SEAL_OVERHEAD) if head else b""
    found = bound + keyring.seal(data, rng.randbytes(NONCE), bound)
    return mutated(rng, found) if kind == 2 else found


class Room:
    """The member, and the sockets that things are thrown from."""

    def __init__(self, rng: random.Random, keys: tuple[bytes, ...], account: Account) -> None:
        self._rng = rng
        self._keys = keys
        self._account = account
        self._loop = asyncio.get_running_loop()
        self._port = free_port()
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self._udp.setblocking(False)
        self._pings = 0

    async def run(self) -> None:
        node = GossipNode(lambda event: None, Config())
        try:
            await node.start("127.0.0.1", "127.0.0.1", self._port, "target", b"about", self._keys)
            for _ in range(PACKETS // TOGETHER):
                for _ in range(TOGETHER):
                    self._throw(packet(self._rng))
                await self._lives()
            for _ in range(STREAMS // TOGETHER):
                await asyncio.gather(*(self._stream() for _ in range(TOGETHER)))
                await self._lives()
            problems = await self._joined()
            if problems:
                self._account.faults.append(f"no state was exchanged any more: {problems}")
        finally:
            self._udp.close()
            await node.close()

    def _throw(self, data: bytes) -> None:
        self._account.inputs += 1
        if self._keys:
            data = sealed(self._rng, data, head=False)
        with suppress(BlockingIOError):
            self._udp.sendto(data[:LARGEST], ("127.0.0.1", self._port))

    async def _lives(self) -> None:
        """A good ping is answered; what came before it has been read then."""
        self._pings += 1
        keyring = Keyring(self._keys) if self._keys else None
        host, port = self._udp.getsockname()
        wanted = 1_000_000 + self._pings
        ping = messages.Ping(wanted, "target", socket.inet_aton(host), port, "thrower")
        data = frames.packet([encode(ping)], keyring, self._rng.randbytes(NONCE), False)
        async with asyncio.timeout(PATIENCE):
            while True:
                await self._loop.sock_sendto(self._udp, data, ("127.0.0.1", self._port))
                with suppress(TimeoutError):
                    async with asyncio.timeout(AGAIN):  # its socket was full of the others
                        return await self._acked(wanted, keyring)

    async def _acked(self, wanted: int, keyring: Keyring | None) -> None:
        while True:
            answer = await self._loop.sock_recv(self._udp, 65536)
            self._account.answers += 1
            found = [messages.decode(one) for one in frames.messages_of(answer, keyring)]
            if any(isinstance(one, messages.Ack) and one.seq == wanted for one in found):
                return

    async def _stream(self) -> None:
        self._account.inputs += 1
        data = stream(self._rng)
        if self._keys:
            data = sealed(self._rng, data, head=True)
        with socket.socket() as client:
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._converse(client, data)
            except TimeoutError:
                self._account.faults.append(f"no end of a stream that began with {data[:40]!r}")
            except OSError:  # cut off at any point
                return

    async def _converse(self, client: socket.socket, data: bytes) -> None:
        """In two pieces; then all that comes back."""
        await self._loop.sock_connect(client, ("127.0.0.1", self._port))
        at = self._rng.randrange(len(data) + 1)
        for piece in (data[:at], data[at:]):
            await self._loop.sock_sendall(client, piece)
        client.shutdown(socket.SHUT_WR)
        while await self._loop.sock_recv(client, 65536):
            self._account.answers += 1

    async def _joined(self) -> str | None:
        other = GossipNode(lambda event: None, Config())
        try:
            await other.start("127.0.0.1", "127.0.0.1", free_port(), "other", b"", self._keys)
            async with asyncio.timeout(PATIENCE):
                (problem,) = (await other.join([("127.0.0.1", self._port)])).values()
            return problem
        finally:
            await other.close()


def free_port() -> int:
    """In both protocols."""
    while True:
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            with suppress(OSError):
                udp.bind(tcp.getsockname())
                return int(tcp.getsockname()[1])


async def batch(seed: int) -> Account:
    """A thousand of them."""
    rng = random.Random(seed)
    with watched() as account:
        await survived(Room(rng, (KEY,) if seed % 2 else (), account).run(), account)
    return account
