"""Images, containers, logs, version, info: what recorded conversations don't show."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from fake_daemon import Daemon, Shoal

from cli import clock
from cli.service.logs import timestamp

NOW = 1_800_000_000


@pytest.fixture(autouse=True)
def _fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW * 10**9)


def lines(*messages: dict[str, Any]) -> bytes:
    return b"\r\n".join(json.dumps(message).encode() for message in messages)


def test_pull_shows_what_the_daemon_says(daemon: Daemon, shoal: Shoal) -> None:
    daemon.says(
        "POST",
        "/images/create",
        lines(
            {"status": "Pulling from library/nginx", "id": "latest"},
            {"status": "Downloading", "progressDetail": {"current": 1, "total": 2}, "id": "abc"},
            {"status": "Pull complete", "progressDetail": {}, "id": "abc"},
            {"status": "Status: Downloaded newer image for nginx:latest"},
        ),
        fromImage="nginx",
        tag="latest",
    )
    assert shoal("pull", "nginx").out == (
        "Using default tag: latest\nlatest: Pulling from library/nginx\nabc: Pull complete\n"
        "Status: Downloaded newer image for nginx:latest\ndocker.io/library/nginx:latest\n"
    )
    assert shoal("image", "pull", "-q", "nginx").out == "docker.io/library/nginx:latest\n"


def test_an_error_within_the_stream_fails_the_command(daemon: Daemon, shoal: Shoal) -> None:
    message = {"errorDetail": {"message": "no space left"}, "error": "no space left"}
    daemon.says("POST", "/images/create", lines({"status": "x", "id": "1"}, message), fromImage="a", tag="1")
    result = shoal("pull", "a:1")
    assert (result.code, result.err) == (1, "no space left\n")


def test_load_sends_the_file(daemon: Daemon, shoal: Shoal, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    archive.write_bytes(b"tar" * 1000)
    daemon.says("POST", "/images/load", lines({"stream": "Loaded image: nginx:latest\n"}), quiet="0")
    assert shoal("load", "-i", str(archive)).out == "Loaded image: nginx:latest\n"
    assert daemon.sent() == [b"tar" * 1000]
    result = shoal("load", "-i", str(tmp_path / "none"))
    assert (result.code, result.err) == (1, f"open {tmp_path / 'none'}: no such file or directory\n")


def test_images(daemon: Daemon, shoal: Shoal) -> None:
    daemon.says(
        "GET",
        "/images/json",
        [
            {
                "Id": "sha256:" + "a" * 64,
                "RepoTags": ["nginx:1", "nginx:latest"],
                "Created": NOW - 7200,
                "Size": 192_000_000,
            },
            {
                "Id": "sha256:" + "b" * 64,
                "RepoTags": None,
                "RepoDigests": ["redis@sha256:cc"],
                "Created": NOW,
                "Size": 0,
            },
        ],
    )
    assert shoal("images").out == (
        "REPOSITORY   TAG       IMAGE ID       CREATED                  SIZE\n"
        "nginx        1         aaaaaaaaaaaa   2 hours ago              192MB\n"
        "nginx        latest    aaaaaaaaaaaa   2 hours ago              192MB\n"
        "redis        <none>    bbbbbbbbbbbb   Less than a second ago   0B\n"
    )


def test_containers(daemon: Daemon, shoal: Shoal) -> None:
    daemon.says(
        "GET",
        "/containers/json",
        [
            {
                "Id": "c" * 64,
                "Names": ["/web.1.abc"],
                "Image": "nginx:latest@sha256:" + "d" * 64,
                "Command": "nginx -g daemon off; and more",
                "Created": NOW - 5,
                "Status": "Up 4 seconds",
                "Ports": [
                    {"PrivatePort": 80, "Type": "tcp"},
                    {"PrivatePort": 53, "PublicPort": 5353, "Type": "udp"},
                ],
            }
        ],
        all="1",
    )
    assert shoal("ps", "-a").out == (
        "CONTAINER ID   IMAGE          COMMAND                  CREATED         STATUS         PORTS"
        "                          NAMES\n"
        'cccccccccccc   nginx:latest   "nginx -g daemon off…"   5 seconds ago   Up 4 seconds   '
        "0.0.0.0:5353->53/udp, 80/tcp   web.1.abc\n"
    )


def frame(stream: int, text: str) -> bytes:
    return struct.pack(">BxxxL", stream, len(text)) + text.encode()


def test_raw_logs_go_where_they_came_from(daemon: Daemon, shoal: Shoal) -> None:
    service = {
        "ID": "s",
        "Spec": {"TaskTemplate": {"ContainerSpec": {}}, "Mode": {"Replicated": {"Replicas": 1}}},
    }
    daemon.says("GET", "/services/web", service, insertDefaults="false")
    content = frame(1, "out\n") + frame(2, "err\n")
    daemon.says("GET", "/services/web/logs", content, stdout="1", stderr="1", tail="all")
    result = shoal("service", "logs", "--raw", "web")
    assert (result.out, result.err, result.code) == ("out\n", "err\n", 0)


def test_a_failure_within_the_logs(daemon: Daemon, shoal: Shoal) -> None:
    daemon.says("GET", "/services/web", {"ID": "s", "Spec": {}}, insertDefaults="false")
    daemon.says(
        "GET", "/services/web/logs", frame(3, "node gone"), stdout="1", stderr="1", tail="all", details="1"
    )
    result = shoal("service", "logs", "web")
    assert (result.code, result.err) == (1, "error from daemon in stream: node gone\n")


@pytest.mark.parametrize(
    ("text", "moment"),
    [("90s", str(NOW - 90)), ("1700000000", "1700000000"), ("2023-11-14T22:13:20Z", "1700000000.000000000")],
)
def test_moments(text: str, moment: str) -> None:
    assert timestamp(text, NOW * 10**9) == moment


def test_version_without_a_daemon(shoal: Shoal, tmp_path: Path) -> None:
    result = shoal("-H", f"unix://{tmp_path / 'none'}", "version")
    assert result.code == 1
    assert result.out.startswith("Client:\n Version: ")
    assert "Server" not in result.out
    assert result.err.startswith("Cannot connect")


def test_info_by_template(daemon: Daemon, shoal: Shoal) -> None:
    daemon.says("GET", "/info", {"Name": "m1", "Swarm": {"LocalNodeState": "active"}})
    assert shoal("info", "-f", "{{.Name}} {{.Swarm.LocalNodeState}}").out == "m1 active\n"
    assert " Swarm: active\n" in shoal("info").out


def test_a_registry_that_knows_nothing_is_only_warned_about(daemon: Daemon, shoal: Shoal) -> None:
    daemon.says("GET", "/distribution/nope:latest/json", {"message": "manifest unknown"}, 404)
    daemon.says("POST", "/services/create", {"ID": "s1", "Warnings": ["careful"]}, 201)
    result = shoal("service", "create", "-d", "nope")
    assert result.code == 0
    assert result.out == "s1\n"
    assert result.err == (
        "careful\nimage nope:latest could not be accessed on a registry to record\n"
        "its digest. Each node will access nope:latest independently,\n"
        "possibly leading to different nodes running different\nversions of the image.\n\n"
    )


def test_credentials_are_sent_when_asked(
    daemon: Daemon, shoal: Shoal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cli.registry_auth import encoded_auth

    (tmp_path / "config.json").write_text('{"auths": {"r.example": {"auth": "dTpw"}}}')
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    import base64

    decoded = json.loads(
        base64.urlsafe_b64decode(encoded_auth("r.example/a", {"DOCKER_CONFIG": str(tmp_path)}))
    )
    assert decoded == {"username": "u", "password": "p", "serveraddress": "r.example"}
    assert base64.urlsafe_b64decode(encoded_auth("nginx", {"DOCKER_CONFIG": str(tmp_path)})) == b"{}"


def test_removing_the_routing_mesh_asks_first(daemon: Daemon, shoal: Shoal) -> None:
    daemon.says("GET", "/networks/ingress", {"Ingress": True})
    result = shoal("network", "rm", "ingress", stdin="n\n")
    assert result.code == 0
    assert result.out.endswith("Are you sure you want to continue? [y/N] ")
    assert [asked.method for asked in daemon.asked] == ["GET"]


def test_stacks_are_removed_part_by_part(daemon: Daemon, shoal: Shoal) -> None:
    filters = {"label": {"com.docker.stack.namespace=app": True}}
    daemon.says("GET", "/services", [{"ID": "s1", "Spec": {"Name": "app_web"}}], filters=filters)
    daemon.says("GET", "/networks", [{"Id": "n1", "Name": "app_net"}], filters=filters)
    daemon.says("GET", "/secrets", [], filters=filters)
    daemon.says("GET", "/configs", [], filters=filters)
    daemon.says("DELETE", "/services/s1")
    daemon.says("DELETE", "/networks/n1", {"message": "in use"}, 400)
    result = shoal("stack", "rm", "app")
    assert result.out == "Removing service app_web\nRemoving network app_net\n"
    assert result.err == (
        "Failed to remove network n1: Error response from daemon: in use\n"
        "Failed to remove some resources from stack: app\n"
    )
    assert result.code == 1


def test_labels_of_configs(daemon: Daemon, shoal: Shoal) -> None:
    spec = {"Name": "conf", "Labels": {"b": "", "a": "1"}, "Data": "eA=="}
    config = {"ID": "c1", "CreatedAt": "", "UpdatedAt": "", "Spec": spec}
    daemon.says("GET", "/configs/conf", config)
    daemon.says("GET", "/configs", [config])
    assert (
        "Name:\t\t\tconf\nLabels:\n - a=1\n - b\nCreated at:"
        in shoal("config", "inspect", "--pretty", "conf").out
    )
    keys = list(json.loads(shoal("config", "ls", "--format", "{{json .}}").out))
    assert keys == ["CreatedAt", "ID", "Labels", "Name", "UpdatedAt"]


def test_two_configs_with_one_target(daemon: Daemon, shoal: Shoal) -> None:
    result = shoal("service", "create", "-d", "--config", "a", "--config", "source=b,target=a", "nginx")
    assert (result.code, result.err) == (1, "duplicate config target for b not allowed\n")
