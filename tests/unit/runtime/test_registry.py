"""The registry client against a registry of the test's own: tokens, mirrors, broken lines, errors."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from agent.runtime import manifest as m
from agent.runtime import reference
from agent.runtime.image import Descriptor, Platform, RegistryAuth
from agent.runtime.registry import Endpoint, Registry, RegistrySettings, distribution, endpoints
from common import errors

BLOB = bytes(range(256)) * 1000
BLOB_DESCRIPTOR = Descriptor("", m.digest_of(BLOB), len(BLOB))
INDEX = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": m.OCI_INDEX,
        "manifests": [
            {"digest": "sha256:" + "1" * 64, "size": 3, "platform": {"os": "linux", "architecture": "amd64"}}
        ],
    }
).encode()


class Server:
    """Serves one repository; what it demands and how it fails are attributes."""

    def __init__(self) -> None:
        self.challenge = ""
        self.accepts = ""
        self.break_at = 0
        self.asked: list[str] = []
        self.token_asked: list[tuple[str, str]] = []
        self.host = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if request.path == "/token":
            self.token_asked.append((request.query["scope"], request.headers.get("Authorization", "")))
            return web.json_response({"token": "good"})
        if self.accepts and request.headers.get("Authorization") != self.accepts:
            return web.Response(
                status=401, headers={"WWW-Authenticate": self.challenge.replace("HOST", self.host)}
            )
        if request.path.endswith("/manifests/latest") or request.path.endswith(m.digest_of(INDEX)):
            return web.Response(body=INDEX, content_type=m.OCI_INDEX)
        if "/blobs/" in request.path:
            return await self._blob(request)
        body = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown", "detail": {}}]}
        return web.json_response(body, status=404)

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        answer = web.StreamResponse(status=206 if start else 200)
        answer.content_length = len(BLOB) - start
        await answer.prepare(request)
        if self.break_at > start:
            await answer.write(BLOB[start : self.break_at])
            assert request.transport is not None
            request.transport.close()
            return answer
        await answer.write(BLOB[start:])
        return answer


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.host = f"127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    made = Registry(RegistrySettings())
    yield made
    await made.close()


async def test_manifest(server: Server, registry: Registry) -> None:
    ref = reference.parse(f"{server.host}/a/b").tagged()
    found = await registry.manifest(ref, None)
    assert found.descriptor == Descriptor(m.OCI_INDEX, m.digest_of(INDEX), len(INDEX))
    assert distribution(found, None).platforms == (Platform("amd64", "linux"),)
    pinned = reference.parse(f"{server.host}/a/b@{m.digest_of(INDEX)}")
    assert (await registry.manifest(pinned, None)).data == INDEX


async def test_errors_in_dockers_words(server: Server, registry: Registry) -> None:
    with pytest.raises(errors.NotFound, match=r"^manifest unknown: manifest unknown$"):
        await registry.manifest(reference.parse(f"{server.host}/a:9"), None)
    refused = "connect call failed|connection refused"
    with pytest.raises(
        errors.Internal, match=r'^Get "https?://127\.0\.0\.1:1/v2/": dial tcp .*: connect: ' + f"({refused})"
    ):
        await registry.manifest(reference.parse("127.0.0.1:1/a:9"), None)


@pytest.mark.parametrize("status", [200, 206])
async def test_a_broken_blob_goes_on(server: Server, registry: Registry, status: int) -> None:
    server.break_at = 100_000 if status == 206 else 0
    endpoint = Endpoint(f"http://{server.host}")
    ref = reference.parse(f"{server.host}/a")
    got = b"".join([chunk async for chunk in registry.blob(endpoint, ref, BLOB_DESCRIPTOR, None)])
    assert got == BLOB
    rest = b"".join([chunk async for chunk in registry.blob(endpoint, ref, BLOB_DESCRIPTOR, None, 200_000)])
    assert rest == BLOB[200_000:]


async def test_basic_log_in(server: Server, registry: Registry) -> None:
    server.challenge = 'Basic realm="x"'
    server.accepts = "Basic " + base64.b64encode(b"me:secret").decode()
    ref = reference.parse(f"{server.host}/a").tagged()
    await registry.manifest(ref, RegistryAuth("me", "secret"))
    with pytest.raises(errors.Unauthenticated):
        await registry.manifest(ref, None)
    with pytest.raises(errors.Unauthenticated):
        await registry.manifest(ref, RegistryAuth("me", "wrong"))


async def test_token_log_in(server: Server, registry: Registry) -> None:
    server.challenge = 'Bearer realm="http://HOST/token",service="s",scope="repository:a:pull"'
    server.accepts = "Bearer good"
    ref = reference.parse(f"{server.host}/a").tagged()
    await registry.manifest(ref, RegistryAuth("me", "secret"))
    assert server.token_asked == [("repository:a:pull", "Basic " + base64.b64encode(b"me:secret").decode())]
    asked = len(server.asked)
    await registry.manifest(ref, RegistryAuth("me", "secret"))
    assert len(server.asked) == asked + 1  # the token is kept


async def test_mirror_first_then_the_registry(server: Server) -> None:
    fetch = Registry(RegistrySettings(mirrors=("http://127.0.0.1:1", f"http://{server.host}")))
    found = await fetch.manifest(reference.parse("nginx").tagged(), RegistryAuth("me", "secret"))
    assert found.endpoint.mirror
    assert server.asked == ["/v2/library/nginx/manifests/latest"]
    await fetch.close()


def test_endpoints() -> None:
    plain = RegistrySettings(
        insecure=("reg.example:5000", "10.0.0.0/8"), mirrors=("https://m.example/", "10.1.1.1:80")
    )
    assert [e.url for e in endpoints("docker.io", plain)] == [
        "https://m.example", "http://10.1.1.1:80", "https://registry-1.docker.io",
    ]  # fmt: skip
    assert endpoints("reg.example:5000", plain)[0].url == "http://reg.example:5000"
    assert [e.url for e in endpoints("10.9.9.9", plain)] == ["http://10.9.9.9", "https://10.9.9.9"]
    assert [e.url for e in endpoints("11.9.9.9", plain)] == ["https://11.9.9.9"]
    assert endpoints("localhost:5000", RegistrySettings())[0].url == "http://localhost:5000"


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(RegistryAuth("me", "secret", "", "secret", "secret"))
