"""The Engine API over a unix socket or TCP, by the standard library only.

One kept-alive connection per call of `shoal`. The version is agreed with the daemon before the first request:
the lower of ours and the daemon's. Used by every command through `Session.client`.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

from cli.errors import ApiError, CliError, ConnectError

DEFAULT_HOST = "unix:///run/shoal/docker.sock"
NEWEST = "1.50"
OLDEST = "1.24"
AGENT = "Shoal-Client/0.1"
_PIECE = 65536

Filters = Mapping[str, Mapping[str, bool]]


def version_key(version: str) -> tuple[int, ...]:
    try:
        return tuple(int(piece) for piece in version.split("."))
    except ValueError:
        raise CliError(f"the daemon speaks an API version that can't be read: {version}") from None


def default_host(environment: Mapping[str, str] = os.environ) -> str:
    return environment.get("SHOAL_HOST") or environment.get("DOCKER_HOST") or DEFAULT_HOST


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.connect(self._path)
        except OSError:
            self.sock.close()
            raise


def _connection(host: str) -> http.client.HTTPConnection:
    scheme, separator, rest = host.partition("://")
    if scheme == "unix" and separator and rest:
        return _UnixConnection(rest)
    if scheme in ("tcp", "http") and separator and rest:
        name, _, port = rest.rstrip("/").rpartition(":")
        if not name:
            name, port = rest.rstrip("/"), "2375"
        if port.isdigit():
            return http.client.HTTPConnection(name.strip("[]"), int(port))
    raise CliError(f'unable to parse docker host "{host}": use unix:///path or tcp://address:port')


class Client:
    """A connection to one daemon. `version` is agreed on first use."""

    def __init__(self, host: str | None = None) -> None:
        self.host = host or default_host()
        self._connection = _connection(self.host)
        self._used = False
        self._version = os.environ.get("DOCKER_API_VERSION", "").removeprefix("v")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def again(self) -> Client:
        """A second connection to the same daemon, for requests beside a stream."""
        other = Client(self.host)
        other._version = self.version
        return other

    @property
    def version(self) -> str:
        if not self._version:
            self._version = self._agree()
        return self._version

    def at_least(self, version: str) -> bool:
        return version_key(self.version) >= version_key(version)

    def get(self, path: str, query: Mapping[str, str] | None = None, filters: Filters | None = None) -> Any:
        return self._json("GET", path, query, filters)

    def get_with(self, path: str, headers: Mapping[str, str]) -> Any:
        return self._json("GET", path, None, headers=headers)

    def post(
        self,
        path: str,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        filters: Filters | None = None,
    ) -> Any:
        return self._json("POST", path, query, filters, body=body, headers=headers)

    def delete(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        return self._json("DELETE", path, query)

    def stream(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: BinaryIO | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        """A response whose body is read by the caller as it comes; errors are raised here."""
        target = self._target(path, query)
        response = self._send(method, target, body, dict(headers or {}))
        if response.status >= 400:
            raise _refusal(response.status, self._whole(response))
        return response

    def upgrade(
        self, path: str, query: Mapping[str, str] | None = None, body: Any = None
    ) -> tuple[socket.socket, bytes]:
        """A POST whose connection leaves HTTP: raw bytes both ways from here on, the first of which may have come."""
        data = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        kind = "text/plain" if body is None else "application/json"
        headers = {"Connection": "Upgrade", "Upgrade": "tcp", "Content-Type": kind}
        response = self._send("POST", self._target(path, query), data, headers)
        if response.status not in (101, 200):
            raise _refusal(response.status, self._whole(response))
        sock = self._connection.sock
        sock.setblocking(False)
        early = response.fp.read1(len(response.fp.peek(1)))
        return sock, early

    def messages(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: BinaryIO | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """A response that is a sequence of JSON objects, such as the progress of a pull."""
        sent = dict(headers or {})
        if body is not None:
            sent["Content-Type"] = "application/x-tar"
        response = self.stream(method, path, query, body, sent)
        decoder = json.JSONDecoder()
        pending = ""
        while chunk := self.piece(response):
            pending += chunk.decode(errors="replace")
            while pending := pending.lstrip():
                try:
                    message, end = decoder.raw_decode(pending)
                except ValueError:
                    break
                yield message
                pending = pending[end:]
        response.close()  # all of it has been read: the connection is free for the next request

    def piece(self, response: http.client.HTTPResponse) -> bytes:
        """What has come of a stream so far; nothing once it has ended."""
        try:
            return response.read1(_PIECE)
        except (http.client.HTTPException, OSError) as error:
            raise ConnectError(f"error during connect: {self.host} broke off its answer: {error}") from error

    def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        filters: Filters | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        wanted = dict(query or {})
        if filters:
            wanted["filters"] = json.dumps(filters, sort_keys=True, separators=(",", ":"))
        sent = dict(headers or {})
        data = None
        if body is not None:
            data = json.dumps(body, separators=(",", ":")).encode()
            sent["Content-Type"] = "application/json"
        response = self._send(method, self._target(path, wanted), data, sent)
        raw = self._whole(response)
        if response.status >= 400:
            raise _refusal(response.status, raw)
        try:
            return json.loads(raw) if raw.strip() else None
        except ValueError as error:
            raise ConnectError(
                f"error during connect: {self.host} answered {path} with no JSON: {error}"
            ) from error

    def _whole(self, response: http.client.HTTPResponse) -> bytes:
        try:
            return response.read()
        except (http.client.HTTPException, OSError) as error:
            raise ConnectError(f"error during connect: {self.host} broke off its answer: {error}") from error

    def _target(self, path: str, query: Mapping[str, str] | None) -> str:
        target = f"/v{self.version}{quote(path, safe='/:@,')}"
        return f"{target}?{urlencode(query)}" if query else target

    def _send(
        self, method: str, target: str, body: bytes | BinaryIO | None, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        headers["User-Agent"] = AGENT
        try:
            return self._attempt(method, target, body, headers)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
            if not self._used or method not in ("GET", "HEAD"):
                raise ConnectError(
                    f"error during connect: {self.host} closed the connection: {error}"
                ) from error
        self._connection.close()  # the daemon was restarted, or tired of waiting
        try:
            return self._attempt(method, target, body, headers)
        except (http.client.HTTPException, OSError) as error:
            raise ConnectError(f"error during connect: {self.host} closed the connection: {error}") from error

    def _attempt(
        self, method: str, target: str, body: bytes | BinaryIO | None, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        try:
            if self._connection.sock is None:
                self._connection.connect()
            self._connection.request(method, target, body, headers)
            response = self._connection.getresponse()
            self._used = True
            return response
        except PermissionError as error:
            raise ConnectError(
                f"permission denied while trying to connect to the Shoal agent's socket at {self.host}"
            ) from error
        except (FileNotFoundError, ConnectionRefusedError, socket.gaierror, TimeoutError) as error:
            raise ConnectError(
                f"Cannot connect to the Docker daemon at {self.host}. Is the shoal-agent running?"
            ) from error

    def _agree(self) -> str:
        for method in ("HEAD", "GET"):
            response = self._send(method, "/_ping", None, {})
            self._whole(response)
            if response.status == 200:
                theirs = response.getheader("Api-Version") or OLDEST
                if version_key(theirs) < version_key(OLDEST):
                    raise CliError(
                        f"Error response from daemon: the daemon's API version {theirs} is too old. "
                        f"Minimum supported API version is {OLDEST}"
                    )
                return min(theirs, NEWEST, key=version_key)
        return NEWEST


def _refusal(status: int, raw: bytes) -> ApiError:
    text = raw.decode(errors="replace").strip()
    try:
        reason = json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        reason = text or http.client.responses.get(status, f"status {status}")
    return ApiError(status, str(reason).strip())


def filters_of(pairs: list[tuple[str, str]], **more: str) -> dict[str, dict[str, bool]]:
    """`--filter` values and own conditions in the form that the API takes."""
    found: dict[str, dict[str, bool]] = {}
    for key, value in [*pairs, *more.items()]:
        found.setdefault(key, {})[value] = True
    return found
