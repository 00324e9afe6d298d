"""The connection to the daemon: agreeing on a version, errors, nobody there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_daemon import Daemon, Shoal

from cli.client import Client, default_host, filters_of
from cli.errors import ApiError, CliError, ConnectError


@pytest.mark.parametrize(("theirs", "agreed"), [("1.41", "1.41"), ("1.50", "1.50"), ("1.99", "1.50")])
def test_the_lower_version_is_spoken(daemon: Daemon, theirs: str, agreed: str) -> None:
    daemon.version = theirs
    with Client(daemon.host) as client:
        assert client.version == agreed
        assert client.at_least("1.30")


def test_too_old_a_daemon(daemon: Daemon) -> None:
    daemon.version = "1.12"
    with (
        Client(daemon.host) as client,
        pytest.raises(CliError, match=r"Minimum supported API version is 1\.24"),
    ):
        client.get("/info")


def test_errors_carry_the_reason(daemon: Daemon) -> None:
    daemon.says("GET", "/nodes/x", {"message": "node x not found"}, 404)
    with Client(daemon.host) as client, pytest.raises(ApiError) as caught:
        client.get("/nodes/x")
    assert caught.value.is_not_found
    assert caught.value.message == "Error response from daemon: node x not found"


def test_an_error_that_is_no_json(daemon: Daemon) -> None:
    daemon.says("GET", "/info", b"gateway on fire", 502)
    with Client(daemon.host) as client, pytest.raises(ApiError, match="gateway on fire"):
        client.get("/info")


@pytest.mark.parametrize("name", ["nothing", "a-file"])
def test_nobody_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "a-file").write_text("")
    host = f"unix://{tmp_path / name}"
    with Client(host) as client, pytest.raises(ConnectError) as caught:
        client.get("/info")
    assert (
        caught.value.message == f"Cannot connect to the Docker daemon at {host}. Is the shoal-agent running?"
    )


@pytest.mark.parametrize("host", ["", "bad", "ssh://a", "tcp://a:b", "unix://"])
def test_addresses_that_cannot_be_used(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOAL_HOST", host or "?")
    with pytest.raises(CliError, match="unable to parse docker host"):
        Client(host)


def test_where_the_daemon_is() -> None:
    assert default_host({}) == "unix:///run/shoal/docker.sock"
    assert default_host({"DOCKER_HOST": "tcp://a:1"}) == "tcp://a:1"
    assert default_host({"DOCKER_HOST": "tcp://a:1", "SHOAL_HOST": "unix:///b"}) == "unix:///b"


def test_filters() -> None:
    assert filters_of([("label", "a=b"), ("label", "c")], role="worker") == {
        "label": {"a=b": True, "c": True},
        "role": {"worker": True},
    }


def test_host_flag_wins(daemon: Daemon, shoal: Shoal, tmp_path: Path) -> None:
    daemon.says("GET", "/nodes", [])
    result = shoal("-H", f"unix://{tmp_path / 'none'}", "node", "ls", "-q")
    assert result.code == 1
    assert result.err.startswith("Cannot connect to the Docker daemon at unix://")
    assert shoal("-H", daemon.host, "node", "ls", "-q").code == 0


PING = b"HTTP/1.1 200 OK\r\nApi-Version: 1.50\r\nContent-Length: 0\r\n\r\n"
NODES = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"
TORN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\r\n[{"


@pytest.fixture
def fickle(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """A daemon that gives each connection its list of answers and then hangs up."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "f.sock"))
    listener.listen()
    threads: list[threading.Thread] = []

    def serve(connections: tuple[list[bytes], ...]) -> None:
        for answers in connections:
            connection, _ = listener.accept()
            with connection:
                for answer in answers:
                    connection.recv(65536)
                    connection.sendall(answer)

    def start(*connections: list[bytes]) -> str:
        threads.append(threading.Thread(target=serve, args=(connections,)))
        threads[-1].start()
        return f"unix://{tmp_path / 'f.sock'}"

    yield start
    for thread in threads:
        thread.join(5)
    listener.close()


def test_a_restarted_daemon_is_asked_again(fickle: Callable[..., str]) -> None:
    with Client(fickle([PING, NODES], [NODES])) as client:
        assert client.get("/nodes") == []
        assert client.get("/nodes") == []


def test_what_changes_something_is_never_sent_twice(fickle: Callable[..., str]) -> None:
    with Client(fickle([PING, NODES])) as client:
        assert client.get("/nodes") == []
        with pytest.raises(ConnectError, match="closed the connection"):
            client.post("/services/create", {})


def test_a_torn_answer(fickle: Callable[..., str]) -> None:
    with Client(fickle([PING, TORN])) as client, pytest.raises(ConnectError, match="broke off its answer"):
        client.get("/nodes")
