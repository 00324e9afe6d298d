"""run, exec, attach and what is done to containers: requests, streams, exit codes."""

from __future__ import annotations

import os
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import pytest
from fake_daemon import Daemon, Shoal

from cli.output.frames import Demultiplexer

ID = "c" * 64
ATTACH = f"/containers/{ID}/attach"


def frame(stream: int, text: str) -> bytes:
    return struct.pack(">BxxxL", stream, len(text)) + text.encode()


@contextmanager
def typed(text: str) -> Iterator[TextIO]:
    """Standard input that says something and ends."""
    reading, writing = os.pipe()
    os.write(writing, text.encode())
    os.close(writing)
    with open(reading) as stdin:
        yield stdin


@contextmanager
def keyboard() -> Iterator[tuple[int, TextIO]]:
    """A terminal: where keys are pressed, and what a program sees of it."""
    outer, inner = os.openpty()
    attributes = termios.tcgetattr(inner)
    attributes[0] &= ~(termios.IXON | termios.ICRNL)  # every key as it is, also before anybody reads
    attributes[3] &= ~termios.ICANON
    termios.tcsetattr(inner, termios.TCSANOW, attributes)
    try:
        with open(inner) as stdin:
            yield outer, stdin
    finally:
        os.close(outer)


def made(daemon: Daemon, **query: Any) -> None:
    daemon.says("POST", "/containers/create", {"Id": ID, "Warnings": []}, 201, **query)


def test_a_detached_run(daemon: Daemon, shoal: Shoal) -> None:
    made(daemon, name="c1")
    daemon.says("POST", f"/containers/{ID}/start", status=204)
    words = ("-d", "--name", "c1", "--network", "att", "--network-alias", "two", "-e", "A=1", "-w", "/tmp",
             "-p", "127.0.0.1:8080:80", "-p", "53/udp", "-v", "/a:/b:ro", "--rm", "-l", "x=y")  # fmt: skip
    assert shoal("run", *words, "alpine", "sleep", "-x").out == f"{ID}\n"
    (body,) = [asked.body for asked in daemon.asked if asked.path == "/containers/create"]
    assert (body["Image"], body["Cmd"], body["Env"], body["WorkingDir"]) == (
        "alpine", ["sleep", "-x"], ["A=1"], "/tmp",
    )  # fmt: skip
    assert body["NetworkingConfig"] == {"EndpointsConfig": {"att": {"Aliases": ["two"], "DriverOpts": None}}}
    host = body["HostConfig"]
    assert (host["NetworkMode"], host["AutoRemove"], host["Binds"]) == ("att", True, ["/a:/b:ro"])
    assert host["PortBindings"] == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}],
        "53/udp": [{"HostIp": "", "HostPort": ""}],
    }
    assert (body["ExposedPorts"], body["Labels"]) == ({"80/tcp": {}, "53/udp": {}}, {"x": "y"})
    assert (body["AttachStdout"], body["OpenStdin"], body["Tty"]) == (False, False, False)


def test_a_run_to_its_end(daemon: Daemon, shoal: Shoal) -> None:
    made(daemon)
    output = frame(1, "out\n") + frame(2, "err\n")
    daemon.says("POST", ATTACH, output, 101, stream="1", stdout="1", stderr="1")
    daemon.says("POST", f"/containers/{ID}/wait", {"StatusCode": 3}, condition="next-exit")
    daemon.says("POST", f"/containers/{ID}/start", status=204)
    result = shoal("run", "alpine", "sh", "-c", "exit 3")
    assert (result.code, result.out, result.err) == (3, "out\n", "err\n")
    asked = [asked.path.rpartition("/")[2] for asked in daemon.asked]
    assert asked == ["create", "attach", "wait", "start"], "nothing of its output or its end can be missed"


def test_what_is_typed_goes_to_the_process(daemon: Daemon, shoal: Shoal) -> None:
    made(daemon)
    daemon.says("POST", ATTACH, frame(1, "ready\n"), 101, stream="1", stdin="1", stdout="1", stderr="1")
    daemon.says("POST", f"/containers/{ID}/wait", {"StatusCode": 0}, condition="removed")
    daemon.says("POST", f"/containers/{ID}/start", status=204)
    with typed("hello\n") as stdin:
        result = shoal("run", "-i", "--rm", "alpine", "cat", stdin=stdin)
    assert (result.code, result.out) == (0, "ready\n")
    assert daemon.typed.get(timeout=30) == b"hello\n"


def test_a_terminal_is_left_by_its_keys(daemon: Daemon, shoal: Shoal) -> None:
    made(daemon)
    daemon.says("POST", ATTACH, b"/ # ", 101, stream="1", stdin="1", stdout="1", stderr="1")
    daemon.says("POST", f"/containers/{ID}/wait", {"StatusCode": 0}, condition="next-exit")
    daemon.says("POST", f"/containers/{ID}/start", status=204)
    with keyboard() as (keys, stdin):
        before = termios.tcgetattr(stdin.fileno())
        os.write(keys, b"ls\r\x10\x11")
        result = shoal("run", "-it", "alpine", stdin=stdin)
        assert termios.tcgetattr(stdin.fileno()) == before, "the terminal is as it was"
    assert (result.code, result.out, result.err) == (0, "/ # ", "read escape sequence\n")
    assert daemon.typed.get(timeout=30) == b"ls\r"
    assert "the input device is not a TTY" in shoal("run", "-it", "alpine").err


def test_an_image_that_is_not_here(daemon: Daemon, shoal: Shoal) -> None:
    daemon.says("POST", "/containers/create", {"message": "No such image: alpine:latest"}, 404)
    made(daemon)
    daemon.script[0].used = False
    pulled = b'{"status":"Pulling from library/alpine","id":"latest"}\r\n{"status":"Digest: sha256:1"}\r\n'
    daemon.says("POST", "/images/create", pulled, fromImage="docker.io/library/alpine", tag="latest")
    daemon.says("POST", f"/containers/{ID}/start", status=204)
    result = shoal("run", "-d", "alpine")
    assert result.err == (
        "Unable to find image 'alpine:latest' locally\nlatest: Pulling from library/alpine\nDigest: sha256:1\n"
    )
    assert result.out == f"{ID}\n"
    refused = shoal("run", "-d", "--pull", "sometimes", "alpine")
    assert (refused.code, "invalid pull option" in refused.err) == (125, True)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("network my-net not manually attachable", 125),
        ('exec: "nosuch": executable file not found in $PATH', 127),
        ('exec: "/etc": permission denied', 126),
    ],
)
def test_a_start_that_fails(daemon: Daemon, shoal: Shoal, reason: str, code: int) -> None:
    made(daemon)
    daemon.says("POST", f"/containers/{ID}/start", {"message": reason}, 500)
    result = shoal("run", "-d", "alpine")
    assert (result.code, result.out) == (code, f"{ID}\n"), "the container stays behind, created"
    assert result.err == (
        f"shoal: Error response from daemon: {reason}\n\nRun 'shoal run --help' for more information\n"
    )


def test_exec(daemon: Daemon, shoal: Shoal) -> None:
    daemon.says("POST", "/containers/c1/exec", {"Id": "e1"}, 201)
    daemon.says("POST", "/exec/e1/start", frame(1, "hi\n"), 101)
    daemon.says("GET", "/exec/e1/json", {"Running": True, "ExitCode": None})
    daemon.says("GET", "/exec/e1/json", {"Running": False, "ExitCode": 7})
    result = shoal("exec", "-u", "nobody", "c1", "sh", "-c", "echo hi; exit 7")
    assert (result.code, result.out) == (7, "hi\n")
    assert daemon.sent()[0]["Cmd"] == ["sh", "-c", "echo hi; exit 7"]
    assert (daemon.sent()[0]["User"], daemon.sent()[1]) == ("nobody", {"Detach": False, "Tty": False})
    daemon.says("POST", "/containers/gone/exec", {"message": "No such container: gone"}, 404)
    result = shoal("container", "exec", "gone", "ls")
    assert (result.code, result.err) == (1, "Error response from daemon: No such container: gone\n")
    assert "requires at least 2 arguments" in shoal("exec", "c1").err


def test_exec_detached(daemon: Daemon, shoal: Shoal) -> None:
    daemon.says("POST", "/containers/c1/exec", {"Id": "e1"}, 201)
    daemon.says("POST", "/exec/e1/start")
    assert shoal("exec", "-d", "c1", "true").code == 0
    assert daemon.sent()[1] == {"Detach": True, "Tty": False}


def container(running: bool = True, terminal: bool = False, stdin: bool = False) -> dict[str, Any]:
    return {
        "Id": ID, "State": {"Running": running, "Paused": False}, "Config": {"Tty": terminal, "OpenStdin": stdin},
        "HostConfig": {"AutoRemove": False},
    }  # fmt: skip


def test_attach(daemon: Daemon, shoal: Shoal) -> None:
    daemon.says("GET", "/containers/talker/json", container())
    daemon.says("POST", ATTACH, frame(1, "tick\n"), 101, stream="1", stdout="1", stderr="1")
    daemon.says("POST", f"/containers/{ID}/wait", {"StatusCode": 137})
    result = shoal("attach", "talker")
    assert (result.code, result.out) == (137, "tick\n")
    daemon.says("GET", "/containers/ended/json", container(running=False))
    assert shoal("attach", "ended").err == "You cannot attach to a stopped container, start it first\n"


def test_start(daemon: Daemon, shoal: Shoal) -> None:
    daemon.says("POST", "/containers/c1/start", status=204)
    daemon.says("POST", "/containers/c2/start", {"message": "No such container: c2"}, 404)
    result = shoal("start", "c1", "c2")
    assert (result.code, result.out) == (1, "c1\n")
    assert result.err == (
        "Error response from daemon: No such container: c2\nError: failed to start containers: c2\n"
    )
    daemon.says("GET", "/containers/c3/json", container())
    daemon.says("POST", ATTACH, frame(1, "once\n"), 101, stream="1", stdout="1", stderr="1")
    daemon.says("POST", f"/containers/{ID}/wait", {"StatusCode": 1}, condition="next-exit")
    daemon.says("POST", f"/containers/{ID}/start", status=204)
    result = shoal("start", "-a", "c3")
    assert (result.code, result.out) == (1, "once\n")


def test_what_is_done_to_several(daemon: Daemon, shoal: Shoal) -> None:
    daemon.says("POST", "/containers/a/stop", status=204, t="1", signal="SIGINT")
    daemon.says(
        "POST", "/containers/b/stop", {"message": "No such container: b"}, 404, t="1", signal="SIGINT"
    )
    result = shoal("stop", "-t", "1", "-s", "SIGINT", "b", "a")
    assert (result.code, result.out) == (1, "a\n")
    assert result.err == "Error response from daemon: No such container: b\n"
    daemon.says("DELETE", "/containers/a", status=204, force="1", v="1")
    assert shoal("container", "rm", "-fv", "a").out == "a\n"
    daemon.says("POST", "/containers/a/kill", status=204, signal="SIGKILL")
    assert shoal("kill", "a").out == "a\n"
    daemon.says("POST", "/containers/a/restart", status=204)
    assert shoal("restart", "a").out == "a\n"
    daemon.says("POST", "/containers/a/wait", {"StatusCode": 5}, condition="")
    daemon.says("POST", "/containers/a/wait", {"StatusCode": 5})
    assert shoal("wait", "a").out == "5\n"


def test_logs_of_a_container(daemon: Daemon, shoal: Shoal) -> None:
    daemon.says("GET", "/containers/a/json", container())
    content = frame(1, "out\n") + frame(2, "err\n")
    daemon.says("GET", f"/containers/{ID}/logs", content, stdout="1", stderr="1", tail="5")
    result = shoal("logs", "--tail", "5", "a")
    assert (result.out, result.err) == ("out\n", "err\n")


def test_prune(daemon: Daemon, shoal: Shoal) -> None:
    daemon.says("POST", "/containers/prune", {"ContainersDeleted": [ID], "SpaceReclaimed": 0})
    assert (
        shoal("container", "prune", "-f").out == f"Deleted Containers:\n{ID}\n\nTotal reclaimed space: 0B\n"
    )
    assert shoal("container", "prune", stdin="n\n").code == 0, "a no is no failure"


def test_a_stream_in_pieces_of_any_size() -> None:
    whole = frame(1, "one") + frame(2, "") + frame(1, "three")
    split = Demultiplexer()
    found = [item for at in range(len(whole)) for item in split.feed(whole[at : at + 1])]
    assert found == [(1, b"one"), (2, b""), (1, b"three")]


def test_a_cidfile(daemon: Daemon, shoal: Shoal, tmp_path: Path) -> None:
    made(daemon)
    assert shoal("create", "--cidfile", str(tmp_path / "id"), "alpine").out == f"{ID}\n"
    assert (tmp_path / "id").read_text() == ID


def test_rm_by_force_of_what_is_not_there(daemon: Daemon, shoal: Shoal) -> None:
    for query in ({"force": "1"}, {}):
        daemon.says("DELETE", "/containers/gone", {"message": "No such container: gone"}, 404, **query)
    text = "Error response from daemon: No such container: gone\n"
    forced, plain = shoal("rm", "-f", "gone"), shoal("rm", "gone")
    assert [(r.code, r.out, r.err) for r in (forced, plain)] == [(0, "", text), (1, "", text)]


def test_addresses_of_its_own(daemon: Daemon, shoal: Shoal) -> None:
    made(daemon)
    words = ("--ip", "10.0.1.7", "--ip6", "fd00::7", "--mac-address", "92:d0:c6:0a:29:33")
    second = "name=two,ip=10.0.2.7,mac-address=92-d0-c6-0a-29-34,link-local-ip=169.254.1.2"
    shoal(
        "create", "--network", "att", "--network", second, "--link-local-ip", "169.254.1.1", *words, "alpine"
    )
    (body,) = [asked.body for asked in daemon.asked if asked.path == "/containers/create"]
    found = body["NetworkingConfig"]["EndpointsConfig"]
    assert found["att"]["IPAMConfig"] == {
        "IPv4Address": "10.0.1.7", "IPv6Address": "fd00::7", "LinkLocalIPs": ["169.254.1.1"],
    }  # fmt: skip
    assert (found["att"]["MacAddress"], found["two"]["MacAddress"]) == (
        "92:d0:c6:0a:29:33",
        "92-d0-c6-0a-29-34",
    )
    assert (
        found["two"]["IPAMConfig"] == {"IPv4Address": "10.0.2.7", "LinkLocalIPs": ["169.254.1.2"]}
        and "MacAddress" not in body
    )
    for given, text in (
        (("--mac-address", "nonsense"), "nonsense is not a valid mac address"),
        (("--network", "name=a,mac-address=x"), "address x: invalid MAC address"),
        (("--network", "name=a,ip=10.0.1.2", "--ip", "10.0.1.3"),
         "conflicting options: cannot specify both --ip and per-network IPv4 address"),
        (("--network", "name=a,link-local-ip=169.254.1.2", "--link-local-ip", "169.254.1.3"),
         "cannot specify both --link-local-ip and per-network link-local IP addresses"),
    ):  # fmt: skip
        done = shoal("create", *given, "alpine")
        assert done.code == 125 and text in done.err


def test_links(daemon: Daemon, shoal: Shoal) -> None:
    made(daemon)
    shoal("create", "--link", "other:db", "--link", "two", "alpine")
    shoal("create", "--link", "other:db", "--network", "att", "--network", "two", "alpine")
    bodies = [asked.body for asked in daemon.asked if asked.path == "/containers/create"]
    assert [body["HostConfig"]["Links"] for body in bodies] == [["other:db", "two"], ["other:db"]]
    assert "Links" not in bodies[0]["NetworkingConfig"]["EndpointsConfig"]["default"]
    endpoints = bodies[1]["NetworkingConfig"]["EndpointsConfig"]
    assert (endpoints["att"]["Links"], "Links" in endpoints["two"]) == (["other:db"], False)
    refused = shoal("create", "--link", "a:b:c", "alpine")
    assert refused.code == 125
    assert 'invalid argument "a:b:c" for "--link" flag: bad format for links: a:b:c' in refused.err
