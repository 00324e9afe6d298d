"""The engine's manner: versions, headers, errors, unknown paths, filters and parameters."""

import asyncio
import io
import json
import socket

import aiohttp
import pytest
from engine_fakes import NO_SWARM, World
from yarl import URL

from agent.engine import app, filters
from agent.engine.router import Route, Router, cleaned, split_version
from common import errors, version

PREFIXES = ["", "/v1.24", "/v1.41", "/v1.41.1", "/v1.50.0", f"/v{version.API}"]


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_every_path_is_there_with_and_without_a_version(world, prefix):
    status, body = await world.ask("GET", f"{prefix}/version")
    assert (status, body["ApiVersion"], body["MinAPIVersion"]) == (200, "1.50", "1.24")


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ("1.51", "client version 1.51 is too new. Maximum supported API version is 1.50"),
        ("2.0", "client version 2.0 is too new. Maximum supported API version is 1.50"),
        (
            "1.23",
            "client version 1.23 is too old. Minimum supported API version is 1.24, "
            "please upgrade your client to a newer version",
        ),
        ("1.50.1", "client version 1.50.1 is too new. Maximum supported API version is 1.50"),
        (
            "1",
            "client version 1 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
        ),
    ],
)
async def test_versions_that_cannot_be_spoken_are_refused(world, asked, text):
    assert await world.ask("GET", f"/v{asked}/info") == (400, {"message": text})


async def test_headers_of_every_answer(world):
    for path in ("/version", "/nosuch", "/nodes"):
        async with world.client.get(path) as response:
            assert response.headers["Api-Version"] == "1.50"
            assert response.headers["Server"] == f"Docker/{version.ENGINE} (linux)"
            assert (response.headers["Ostype"], response.headers["Docker-Experimental"]) == ("linux", "false")
            assert response.content_type == "application/json"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/nosuch"),
        ("GET", "/nodes/"),
        ("POST", "/nodes"),
        ("GET", "/v1.50"),
        ("PUT", "/swarm"),
        ("GET", "/vx/info"),
    ],
)
async def test_unknown_paths_and_methods(world, method, path):
    assert await world.ask(method, path) == (404, {"message": "page not found"})


async def test_options_of_any_path(world):
    for path in ("/networks", "/v1.41/nosuch"):
        async with world.client.options(path) as response:
            assert (response.status, await response.read()) == (200, b"")
            assert response.headers["Api-Version"] == "1.50"


async def test_ping_tells_where_the_node_stands(world):
    async with world.client.head("/_ping") as response:
        assert (response.status, response.headers["Swarm"]) == (200, "inactive")
        assert response.headers["Cache-Control"] == "no-cache, no-store, must-revalidate"
        assert response.headers["Pragma"] == "no-cache"
    world.swarm.become(manager=False)
    async with world.client.get("/_ping") as response:
        assert (await response.text(), response.headers["Swarm"]) == ("OK", "active/worker")
    world.swarm.become()
    async with world.client.get("/_ping") as response:
        assert response.headers["Swarm"] == "active/manager"


async def test_a_mistake_in_a_handler_is_logged_and_told(world, caplog):
    def broken():
        raise KeyError("oops")

    world.swarm.membership = broken
    assert await world.ask("GET", "/_ping") == (500, {"message": "KeyError: 'oops'"})
    assert "GET /_ping failed" in caplog.text


@pytest.mark.parametrize(
    ("data", "kind", "text"),
    [
        (b"", "application/json", "invalid JSON: got EOF while reading request body"),
        (b"{", "application/json", "invalid JSON: "),
        (b"{}", "text/plain", "unsupported Content-Type header (text/plain): must be 'application/json'"),
        (b"{}", "", "malformed Content-Type header (): mime: no media type"),
        (
            b"[]",
            "application/json",
            "invalid JSON: json: cannot unmarshal array into Go value of type swarm.InitRequest",
        ),
        (
            b'{"ListenAddr": 3}',
            "application/json",
            "invalid JSON: json: cannot unmarshal number into Go struct field InitRequest.ListenAddr of type string",
        ),
    ],
)
async def test_bodies_that_are_none(world, data, kind, text):
    async with world.client.post("/swarm/init", data=data, headers={"Content-Type": kind}) as response:
        assert response.status == 400
        assert (await response.json())["message"].startswith(text)


async def test_a_body_that_is_too_large_is_refused(world):
    async with world.client.post(
        "/swarm/init", data=io.BytesIO(b" " * (17 << 20)), headers={"Content-Type": "application/json"}
    ) as response:
        assert response.status == 413


async def test_a_client_that_waits_to_be_told_to_go_on(world):
    async with world.client.post("/images/load", data=b"an archive", expect100=True) as response:
        assert response.status == 200


async def test_large_headers_are_taken(world):
    async with world.client.get("/version", headers={"X-Registry-Auth": "x" * 30_000}) as response:
        assert response.status == 200
    async with world.client.get(
        "/networks", params={"filters": '{"name":["%s"]}' % ("x" * 30_000)}
    ) as response:
        assert response.status == 200


async def test_events_send_headers_at_once_and_end_with_the_client(world):
    async with world.client.get("/events") as response:
        assert (response.status, response.headers["Transfer-Encoding"]) == (200, "chunked")
    async with world.client.get("/events", params={"until": "1"}) as response:
        assert await response.text() == ""
    assert (await world.ask("GET", "/events?until=x"))[0] == 400


async def test_listens_on_its_own_socket_and_on_one_that_it_is_given(tmp_path):
    engine = World().engine
    path = str(tmp_path / "run" / "docker.sock")
    given = socket.socket(socket.AF_UNIX)
    given.bind(str(tmp_path / "given.sock"))
    for address, options in ((path, {"group": "no such group"}), (given.getsockname(), {"listener": given})):
        async with (
            app.serve(engine, path, **options),
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(address)) as client,
            client.get("http://docker/v1.50/nodes") as response,
        ):
            assert (response.status, await response.json()) == (503, {"message": NO_SWARM})
        await asyncio.sleep(0)


# ---- pure parts


def test_router():
    router = Router([
        Route("GET", "/images/json", "list"),
        Route("GET", "/images/{name:path}/json", "inspect"),
        Route("DELETE", "/images/{name:path}", "remove"),
        Route("GET", "/nodes/{id}", "node"),
    ])  # fmt: skip
    assert router.find("GET", "/images/json") == ("list", {})
    assert router.find("HEAD", "/images/json") == ("list", {})
    assert router.find("GET", "/images/example.org:5000/a/b:1/json") == (
        "inspect",
        {"name": "example.org:5000/a/b:1"},
    )
    assert router.find("DELETE", "/images/a/json") == ("remove", {"name": "a/json"})
    assert router.find("GET", "/nodes/a/b") is None
    assert router.find("PUT", "/images/json") is None
    assert router.find("GET", "nodes") is None


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("/containers//web/json", "/containers/web/json"), ("/a/./b", "/a/b"), ("/a/../b", "/b"), ("//a", "/a"),
        ("/..", "/"), ("/a//", "/a/"), ("/a/b..c/.d", "/a/b..c/.d"), ("/networks/", "/networks/"), ("/", "/"),
    ],
)  # fmt: skip
def test_paths_without_detours(path, clean):
    assert cleaned(path) == clean


async def test_a_detour_is_shown_the_straight_way(world):
    async with world.client.get("/v1.50/containers//json?all=1", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (301, "/v1.50/containers/json?all=1")
    wild = URL("/a//b%0D%0AX:%201?c=%00%0A&d=%26", encoded=True)
    async with world.client.get(wild, allow_redirects=False) as response:
        assert (response.status, response.headers.get("X")) == (301, None)
        assert response.headers["Location"] == "/a/b%0D%0AX%3A%201?c=%00%0A&d=%26"


def test_split_version():
    assert split_version("/v1.41/nodes") == ("1.41", "/nodes")
    assert split_version("/nodes") == ("", "/nodes")
    assert split_version("/volumes") == ("", "/volumes")


def test_filters_in_both_forms():
    for value in ({"name": {"a": True, "b": True, "c": False}}, {"name": ["a", "b"]}):
        assert filters.parse(json.dumps(value), ("name",)) == {"name": ("a", "b")}
    assert filters.parse("", ("name",)) == filters.parse("null", ("name",)) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"foo":{"bar":true}}', "Invalid filter 'foo'"),
        ("{", "invalid filter: unexpected EOF"),
        ("x", "invalid filter: invalid character 'x' looking for beginning of value"),
        ('{"name":{"x":"y"}}', "invalid filter 'name': its values must be strings"),
        ("[]", "invalid filter: it must be a JSON object"),
        ('{"name":1}', "invalid filter 'name': its values must be strings"),
        ('{"name":[1]}', "invalid filter 'name': its values must be strings"),
    ],
)
def test_filters_that_are_none(text, message):
    with pytest.raises(errors.InvalidArgument) as caught:
        filters.parse(text, ("name",))
    assert caught.value.message.startswith(message)


def test_filters_by_label_and_truth():
    labels = {"a": "1", "b": ""}
    assert filters.labels_match(labels, ("a", "b="))
    assert not filters.labels_match(labels, ("a=2",))
    assert filters.truth(()) is None
    assert filters.truth(("true",)) is True
    assert filters.truth(("0",)) is False
    for word in ("maybe", "True"):
        with pytest.raises(errors.InvalidArgument):
            filters.truth((word,))


@pytest.mark.parametrize(
    ("text", "pattern", "found"),
    [
        ("web", "web", True), ("web", "w", True), ("web", "^w.b$", True), ("web", "a|b$", True), ("web", "^e", False),
        ("a.b", "a.b", True), ("axb", "[", False), ("a[b", "a[b", True), ("web", "*", False), ("web-1", "[[a]", False),
        ("my-web", "(my|your)-web", True), ("a(b)", "(b)", True), ("a--b", "--", True),
        ("a" * 200, "a*a*a*a*a*a*b", False), ("a" * 100_000, "a*a*b", False), ("a" * 128, "a*a*a*b", False),
    ],
)  # fmt: skip
def test_patterns(text, pattern, found):
    """As in Docker they are expressions, as far as looking for them stays quick."""
    assert filters.matches(text, ("nothing", pattern)) is found


async def raw(world, request: bytes, last: bytes) -> bytes:
    """What comes back to these bytes, as far as the last that is waited for."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.client.port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.readuntil(last), 60)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_body_that_is_not_what_its_headers_say(world):
    world.swarm.become()
    head = b"POST /services/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
    found = await raw(world, head + b"Content-Length: 4\r\n\r\nnope", b"error reading the request's body")
    assert found.startswith(b"HTTP/1.1 400 ")


async def test_half_a_character(world):
    world.swarm.become()
    status, answer = await world.ask("POST", "/networks/create", {"Name": "\udcff", "Driver": "overlay"})
    assert (status, answer["message"]) == (
        400,
        "what is asked for is not UTF-8: surrogates not allowed",
    )


async def test_filters_nested_without_end(world):
    world.swarm.become()
    status, answer = await world.ask("GET", "/nodes?filters=" + "[" * 20_000)
    assert status == 400 and answer["message"].startswith("invalid filter: ")


async def test_a_stream_for_an_old_client_has_no_chunks(world):
    world.swarm.become()
    found = await raw(world, b"GET /events HTTP/1.0\r\n\r\n", b"\r\n\r\n")
    assert found.startswith(b"HTTP/1.0 200 OK") and b"chunked" not in found
    assert b"Transfer-Encoding: chunked" in await raw(
        world, b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n\r\n"
    )


async def test_what_is_no_http_is_one_line_of_the_journal(tmp_path, caplog):
    path = str(tmp_path / "docker.sock")
    with caplog.at_level("INFO"):
        async with app.serve(World().engine, path):
            for _ in range(50):
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(b"GET /_ping HTTP/1.1\r\nno header\r\n\r\n")
                assert (await reader.read()).startswith(b"HTTP/1.0 400 ")
                writer.close()
                await writer.wait_closed()
    assert len(caplog.records) == 10
    assert not any(record.exc_info or record.levelname != "INFO" for record in caplog.records)
    assert caplog.records[0].getMessage().startswith("a request that is no HTTP: 400, message:")
