"""A daemon that answers from a script; the fixtures that use it are in conftest.py."""

from __future__ import annotations

import base64
import io
import json
import queue
import re
import socket
import socketserver
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, Any]
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Exchange:
    """One answer of the script: used up when a request matches, kept if it's the last of its kind."""

    method: str
    path: str
    answer: Any = None
    status: int = 200
    query: dict[str, Any] = field(default_factory=dict)
    used: bool = False

    def fits(self, asked: Asked) -> bool:
        return (self.method, self.path, self.query) == (asked.method, asked.path, asked.query)


class Daemon:
    """The script and what was asked so far. `version` is the newest API version that it speaks."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.version = "1.50"
        self.script: list[Exchange] = []
        self.asked: list[Asked] = []
        self.typed: queue.Queue[bytes] = queue.Queue()  # what clients sent after leaving HTTP

    def says(self, method: str, path: str, answer: Any = None, status: int = 200, **query: Any) -> None:
        self.script.append(Exchange(method, path, answer, status, query))

    def answer(self, asked: Asked) -> Exchange:
        self.asked.append(asked)
        fitting = [exchange for exchange in self.script if exchange.fits(asked)]
        fresh = [exchange for exchange in fitting if not exchange.used]
        if not fitting:
            text = f"not in the script: {asked.method} {asked.path} {asked.query}"
            return Exchange(asked.method, asked.path, {"message": text}, 500)
        chosen = fresh[0] if fresh else fitting[-1]
        chosen.used = True
        return chosen

    def sent(self, method: str = "POST") -> list[Any]:
        """The bodies of the requests of one method."""
        return [asked.body for asked in self.asked if asked.method == method]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedServer

    def log_message(self, *_: object) -> None:
        pass

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        path = re.sub(r"^/v[0-9.]+", "", unquote(parts.path))
        query: dict[str, Any] = dict(parse_qsl(parts.query))
        if "filters" in query:
            query["filters"] = json.loads(query["filters"])
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length) if length else self._chunks()
        json_sent = self.headers.get("Content-Type") == "application/json"
        if path == "/_ping":
            self._reply(200, b"", "text/plain")
            return
        asked = Asked(
            self.command, path, query, json.loads(raw) if json_sent else raw or None, dict(self.headers)
        )
        exchange = self.server.daemon.answer(asked)
        content = exchange.answer
        if isinstance(content, dict) and "base64" in content:
            content = base64.b64decode(content["base64"])
        if exchange.status == 101:
            self._upgrade(asked, content)
        elif isinstance(content, bytes):
            self._reply(exchange.status, content, "application/octet-stream")
        else:
            body = b"" if content is None else json.dumps(content).encode()
            self._reply(exchange.status, body, "application/json")

    def _upgrade(self, asked: Asked, content: bytes) -> None:
        """Out of HTTP: says what it has to say, and keeps what the client sends until it has no more."""
        self.wfile.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n" + content)
        if asked.query.get("stdin") != "1":
            self.connection.shutdown(socket.SHUT_WR)
        self.server.daemon.typed.put(self.rfile.read())
        self.close_connection = True

    def _chunks(self) -> bytes:
        """A body that was sent in pieces."""
        content = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return content

    def _reply(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Api-Version", self.server.daemon.version)
        self.send_header("Content-Type", kind)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and body:
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_DELETE = _handle


class ScriptedServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    daemon: Daemon

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client may leave at any time
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


Shoal = Callable[..., Result]


class HeldClock:
    """Time that only `pause` moves on. `interrupt_at`: a pause from then on is Ctrl-C."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.interrupt_at: float | None = None

    def pause(self, seconds: float) -> None:
        self.seconds += seconds
        if self.interrupt_at is not None and self.seconds >= self.interrupt_at:
            raise KeyboardInterrupt
