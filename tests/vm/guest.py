"""Runs inside a virtual machine of tests/vm: a shell for the test that drives it, the docker socket by TCP, and a stream that is summed.

    guest.py shell               a JSON line per connection: {"run": "command"} -> {"status": 0, "output": "..."}
    guest.py receive PORT        one stream: prints how long it was, and its sum
    guest.py send HOST PORT N    a stream of N seconds: prints the same
    guest.py sctp PORT N         answers N associations of SCTP with the address that each came from
    guest.py ask HOST PORT       an association of SCTP, with a pause: prints the answer

Only the standard library: it is copied into the machine as it is. The machine's network leads nowhere but to the test.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import socket
import sys
import time

SHELL_PORT = 7000
DOCKER_PORT = 7001
DOCKER_SOCKET = "/run/shoal/docker.sock"
# In every block, so that a capture shows whether the stream went in plain text.
MARKER = b"this-is-not-to-be-seen-on-the-wire."
_BLOCK = 16 * 1024
_SILENCE = 8  # seconds in which the peers of an association look for further ways to each other


async def _run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    command = json.loads(await reader.readline())["run"]
    process = await asyncio.create_subprocess_exec(
        "/bin/bash", "-c", command,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    answer = {"status": process.returncode, "output": output.decode(errors="replace")}
    writer.write(json.dumps(answer).encode() + b"\n")
    await writer.drain()
    writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()


async def _docker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        there, back = await asyncio.open_unix_connection(DOCKER_SOCKET)
    except OSError:
        writer.close()
        return
    await asyncio.gather(_copy(reader, back), _copy(there, writer))
    for each in (back, writer):
        each.close()


async def shell() -> None:
    """Until the machine ends."""
    servers = (
        await asyncio.start_server(_run, "0.0.0.0", SHELL_PORT, limit=1 << 20),
        await asyncio.start_server(_docker, "0.0.0.0", DOCKER_PORT),
    )
    await asyncio.gather(*(server.serve_forever() for server in servers))


def receive(port: int) -> str:
    total, seen = hashlib.sha256(), 0
    with socket.create_server(("0.0.0.0", port)) as server, server.accept()[0] as peer:
        while data := peer.recv(1 << 16):
            total.update(data)
            seen += len(data)
    return f"{seen} {total.hexdigest()}"


def send(host: str, port: int, seconds: float) -> str:
    total, sent = hashlib.sha256(), 0
    end = time.monotonic() + seconds
    with socket.create_connection((host, port), 30) as peer:
        for number in itertools.count():
            block = (b"%08d" % number + MARKER).ljust(_BLOCK, b".")
            peer.sendall(block)
            total.update(block)
            sent += len(block)
            if time.monotonic() > end:
                break
    return f"{sent} {total.hexdigest()}"


def sctp(port: int, count: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP) as server:
        server.bind(("0.0.0.0", port))
        server.listen(8)
        for _ in range(count):
            peer, address = server.accept()
            with peer:
                while peer.recv(64):
                    peer.sendall(address[0].encode())


def ask(host: str, port: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP) as made:
        made.settimeout(30)
        made.connect((host, port))
        made.sendall(b"who am I")
        first = made.recv(64).decode()
        time.sleep(_SILENCE)
        made.sendall(b"and now")
        second = made.recv(64).decode()
        return first if first == second else f"{first}, then {second}"


def main(words: list[str]) -> None:
    match words:
        case ["shell"]:
            asyncio.run(shell())
        case ["receive", port]:
            print(receive(int(port)))
        case ["send", host, port, seconds]:
            print(send(host, int(port), float(seconds)))
        case ["sctp", port, count]:
            sctp(int(port), int(count))
        case ["ask", host, port]:
            print(ask(host, int(port)))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
