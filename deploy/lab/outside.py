"""The world outside of the swarm: the machines' default gateway, a web server and a DNS server.

The supervisor runs this file in a network namespace of its own. It has no way to the host's uplink: what the machines
send to anywhere else ends here with "unreachable". Names end in ``.test``, a domain that is reserved for this.
"""

from __future__ import annotations

import socket
import socketserver
import struct
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from plan import FAR_ADDRESS, OUTSIDE, OUTSIDE_ADDRESS, REGISTRY_ADDRESS

NAMES = {
    "outside.test": [OUTSIDE_ADDRESS],
    "www.outside.test": [OUTSIDE_ADDRESS],
    "far.test": [FAR_ADDRESS],
    "registry.test": [REGISTRY_ADDRESS],
    # Too many for 512 bytes: the answer is cut short and asked for again by TCP.
    "many.test": [f"203.0.113.{i}" for i in range(1, 61)],
}
TYPE_A, TYPE_ANY, CLASS_IN = 1, 255, 1
NO_ERROR, FORMAT_ERROR, NO_SUCH_NAME, NOT_IMPLEMENTED = 0, 1, 3, 4


def answer(query: bytes, limit: int) -> bytes | None:
    """The answer to one DNS message; None when it isn't worth one."""
    if len(query) < 12 or query[2] & 0x80:
        return None
    ident, flags, questions = struct.unpack("!HHH", query[:6])
    recursion = flags & 0x0100
    labels: list[str] = []
    at = 12
    try:
        while query[at]:
            length = query[at]
            labels.append(query[at + 1 : at + 1 + length].decode("ascii", "replace"))
            at += length + 1
        kind, _ = struct.unpack("!HH", query[at + 1 : at + 5])
    except (IndexError, struct.error):
        return struct.pack("!HHHHHH", ident, 0x8000 | recursion | FORMAT_ERROR, 0, 0, 0, 0)
    question = query[12 : at + 5]
    name = ".".join(labels).lower()
    code = NO_ERROR
    addresses: list[str] = []
    if questions != 1 or flags & 0x7800:
        code = NOT_IMPLEMENTED
    elif name not in NAMES:
        code = NO_SUCH_NAME
    elif kind in (TYPE_A, TYPE_ANY):
        addresses = NAMES[name]
    records = b"".join(
        struct.pack("!HHHIH", 0xC00C, TYPE_A, CLASS_IN, 5, 4) + socket.inet_aton(address)
        for address in addresses
    )
    head_flags = 0x8480 | recursion | code
    if 12 + len(question) + len(records) > limit:
        head_flags |= 0x0200
        records, addresses = b"", []
    return struct.pack("!HHHHHH", ident, head_flags, 1, len(addresses), 0, 0) + question + records


class _UdpDns(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        data, sock = self.request
        reply = answer(data, 512)
        if reply:
            sock.sendto(reply, self.client_address)


class _TcpDns(socketserver.StreamRequestHandler):
    timeout = 5

    def handle(self) -> None:
        while len(head := self.rfile.read(2)) == 2:
            reply = answer(self.rfile.read(struct.unpack("!H", head)[0]), 65535)
            if not reply:
                return
            self.wfile.write(struct.pack("!H", len(reply)) + reply)


class _Udp(socketserver.ThreadingUDPServer):
    daemon_threads = True
    allow_reuse_address = True


class _Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


class _WebServer(ThreadingHTTPServer):
    request_queue_size = 256


class _Web(BaseHTTPRequestHandler):
    """Says who it is and which address the request came from."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"outside: you are {self.client_address[0]}, you asked for {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """No log: the lab's console stays readable."""


def _configure() -> None:
    socket.sethostname(OUTSIDE)
    for command in (
        f"ip address add {OUTSIDE_ADDRESS}/24 dev eth0",
        f"ip address add {FAR_ADDRESS}/32 dev lo",
        "ip link set lo up",
        "ip link set eth0 up",
    ):
        subprocess.run(command.split(), check=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def main() -> None:
    sys.stdin.readline()  # the supervisor has put eth0 into this namespace
    _configure()
    web = _WebServer(("0.0.0.0", 80), _Web)
    servers: list[socketserver.BaseServer] = [
        _Udp(("0.0.0.0", 53), _UdpDns),
        _Tcp(("0.0.0.0", 53), _TcpDns),
        web,
    ]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
