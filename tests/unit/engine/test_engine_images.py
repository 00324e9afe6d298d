"""/images, /distribution and /containers of the engine."""

import base64
import json
from dataclasses import replace

import pytest
from engine_fakes import DIGEST, NOW, image

from agent.engine import container_shapes, containers
from agent.runtime.api import ContainerConfig, ContainerState, ExitStatus, LogEntry, Status
from agent.runtime.image import RegistryAuth
from agent.state import NodeState
from common import model

LABELS = {"com.docker.swarm.task.id": "t1", "com.docker.swarm.task": ""}
SECOND = 1_000_000_000


def container(**values):
    config = ContainerConfig(
        "c" * 64, "web.1.t1", f"nginx:latest@{DIGEST}", args=("sleep", "1 0"), env=("A=2",)
    )
    standard = {
        "id": "c" * 64, "name": "web.1.t1", "image": config.image, "labels": LABELS, "status": Status.RUNNING, "pid": 77,
        "created_at": NOW - 9 * SECOND, "started_at": NOW - 5 * SECOND, "config": config,
    }  # fmt: skip
    return ContainerState(**{**standard, **values})


async def lines(response):
    return [json.loads(line) for line in (await response.text()).splitlines()]


async def test_pull_says_how_it_goes(world):
    auth = base64.urlsafe_b64encode(b'{"username":"u","password":"p"}').decode()
    query = {"fromImage": "docker.io/library/nginx", "tag": "latest"}
    async with world.client.post(
        "/images/create", params=query, headers={"X-Registry-Auth": auth}
    ) as response:
        assert (response.status, response.content_type) == (200, "application/json")
        assert await lines(response) == [
            {"status": "Pulling from library/nginx", "id": "latest"},
            {"status": "Downloading", "progressDetail": {"current": 50, "total": 100}, "id": "0123456789ab"},
            {"status": "Pull complete", "progressDetail": {}, "id": "0123456789ab"},
            {"status": f"Digest: {DIGEST}"},
            {"status": "Status: Downloaded newer image for nginx:latest"},
        ]
    assert world.runtime.pulls == [("docker.io/library/nginx:latest", RegistryAuth("u", "p"))]
    status, body = await world.ask("GET", "/images/json")
    assert (status, body[0]["RepoTags"], body[0]["Created"]) == (200, ["nginx:latest"], NOW // SECOND - 1220)
    assert "VirtualSize" not in body[0]
    assert "VirtualSize" in (await world.ask("GET", "/v1.43/images/json"))[1][0]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"fromImage": "nosuch", "tag": "1"}, 404),
        ({"fromImage": "Bad"}, 400),
        ({"fromSrc": "-"}, 501),
        ({"fromImage": "nginx"}, 501),
    ],
)
async def test_pull_that_cannot_begin(world, query, status):
    assert (await world.ask("POST", "/images/create", params=query))[0] == status


async def test_pull_that_breaks_off_ends_with_the_error(world):
    async def broken(ref, auth=None, progress=None):
        from agent.runtime.image import PullEvent
        from common import errors

        progress(PullEvent("Downloading", "0123456789ab", 50, 100))
        raise errors.ShoalError("unexpected EOF")

    world.runtime.pull = broken
    async with world.client.post("/images/create", params={"fromImage": "nginx", "tag": "1"}) as response:
        assert (await lines(response))[-1] == {
            "errorDetail": {"message": "unexpected EOF"},
            "error": "unexpected EOF",
        }


async def test_load(world):
    async with world.client.post("/images/load?quiet=1", data=b"an archive") as response:
        assert await lines(response) == [{"stream": "Loaded image: busybox:latest\n"}]
    assert await world.ask("POST", "/images/load") == (400, {"message": "unexpected EOF"})


async def test_inspect_tag_remove(world):
    world.runtime.held = [image(cmd=("nginx",), exposed_ports=("80/tcp",), labels={"a": "b"})]
    status, body = await world.ask("GET", "/images/nginx/json")
    assert (status, body["Config"]["Cmd"], body["Config"]["ExposedPorts"]) == (200, ["nginx"], {"80/tcp": {}})
    assert (
        await world.ask("GET", "/images/json", params={"filters": '{"label":["a=b"],"dangling":["false"]}'})
    )[1]
    assert not (await world.ask("GET", "/images/json", params={"filters": '{"reference":["redis"]}'}))[1]
    assert await world.ask("GET", "/images/web/json") == (
        404, {"message": "no such image: web: No such image: web:latest"},
    )  # fmt: skip
    assert await world.ask("POST", "/images/nginx/tag?repo=example.org/mine&tag=2") == (201, "")
    assert (await world.ask("GET", "/images/example.org/mine:2/json"))[0] == 200
    _, body = await world.ask("DELETE", "/images/example.org/mine:2")
    assert [list(item) for item in body] == [["Untagged"], ["Deleted"]]
    assert (await world.ask("DELETE", "/images/example.org/mine:2"))[0] == 404


async def test_images_by_their_age(world):
    older = replace(image("older:latest"), created="2020-01-01T00:00:00Z")
    newer = replace(image("newer:latest"), created="2022-01-01T00:00:00Z")
    world.runtime.held = [older, newer]
    for wanted, names in (
        ({"since": ["older"]}, ["newer:latest"]), ({"before": ["newer:latest"]}, ["older:latest"]),
        ({"until": ["2021-01-01"]}, ["older:latest"]), ({"before": ["older"]}, []),
    ):  # fmt: skip
        _, found = await world.ask("GET", "/images/json", params={"filters": json.dumps(wanted)})
        assert [name for shown in found for name in shown["RepoTags"]] == names, wanted
    for wanted, status, text in (
        ({"before": ["nosuch"]}, 404, "No such image: nosuch:latest"),
        ({"until": ["x"]}, 400, 'failed to parse value as time or duration: "x"'),
        ({"dangling": ["maybe"]}, 400, "invalid value for filter 'dangling', must be"),
    ):
        got, body = await world.ask("GET", "/images/json", params={"filters": json.dumps(wanted)})
        assert (got, body["message"].startswith(text)) == (status, True), body


async def test_credentials_that_cannot_be_read_are_none(world):
    query = {"fromImage": "nginx", "tag": "latest"}
    async with world.client.post(
        "/images/create", params=query, headers={"X-Registry-Auth": "!!!"}
    ) as response:
        assert response.status == 200
        await response.read()
    assert world.runtime.pulls == [("nginx:latest", None)]


async def test_what_is_no_image(world):
    text = "invalid reference format: repository name must be lowercase"
    assert await world.ask("GET", "/images/UP/json") == (400, {"message": f"no such image: UP: {text}"})
    assert await world.ask("DELETE", "/images/UP") == (400, {"message": text})
    assert await world.ask("DELETE", "/images/no") == (404, {"message": "No such image: no:latest"})
    assert (await world.ask("DELETE", "/images/" + "a" * 64))[0] == 404


async def test_what_only_containers_have_is_shown_to_older_clients(world):
    world.runtime.held = [image("nginx:latest")]
    _, old = await world.ask("GET", "/v1.49/images/nginx/json")
    _, new = await world.ask("GET", "/images/nginx/json")
    assert old["Config"].keys() - new["Config"].keys() == {
        "Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce", "Image",
    }  # fmt: skip
    (listed,) = (await world.ask("GET", "/images/json"))[1]
    assert listed["Descriptor"] == new["Descriptor"]
    assert "Descriptor" not in (await world.ask("GET", "/v1.47/images/json"))[1][0]


async def test_distribution(world):
    assert await world.ask("GET", "/distribution/nginx:latest/json") == (200, {
        "Descriptor": {
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "digest": DIGEST, "size": 527,
        },
        "Platforms": [{"architecture": "amd64", "os": "linux"}],
    })  # fmt: skip
    answer = await world.ask("GET", "/distribution/redis:9.9.9/json")
    assert answer == (404, {"message": "manifest unknown: manifest unknown"})
    answer = await world.ask("GET", "/distribution/Bad%20Image/json")
    assert answer == (400, {"message": "invalid reference format: repository name must be lowercase"})


# ---- containers


async def test_containers(world):
    exited = container(
        id="e" * 64, name="web.1.t0", labels={}, status=Status.STOPPED, exit=ExitStatus(137, NOW - SECOND)
    )
    world.runtime.running, world.runtime.held = [container(), exited], [image()]
    _, body = await world.ask("GET", "/containers/json")
    assert [c["Id"] for c in body] == ["c" * 64]
    assert (body[0]["Names"], body[0]["Command"], body[0]["Status"]) == (
        ["/web.1.t1"],
        "sleep '1 0'",
        "Up 5 seconds",
    )
    assert (body[0]["Labels"], body[0]["ImageID"], body[0]["State"]) == (
        LABELS,
        "sha256:" + "a" * 64,
        "running",
    )
    _, body = await world.ask("GET", "/containers/json?all=1")
    assert [c["Status"] for c in body] == ["Up 5 seconds", "Exited (137) 1 second ago"]
    for query, count in (
        ('{"name":["t1"]}', 1),
        ('{"status":["exited"]}', 1),
        ('{"label":["x"]}', 0),
        ('{"ancestor":["nginx"]}', 1),
    ):
        assert len((await world.ask("GET", "/containers/json", params={"filters": query}))[1]) == count


async def test_inspect_a_container_of_both_families(world):
    network = model.Network(id="net", spec=model.NetworkSpec(name="my-net"))
    leg = model.NetworkAttachment(None, ("10.0.1.3/24", "fd00:1::3/64"), (), "net")
    task = model.Task(id="t1", networks=(leg,))
    world.swarm.assigned = NodeState(tasks={"t1": model.TaskAssignment(task)}, networks={"net": network})
    world.runtime.running, world.runtime.held = [container()], [image()]
    _, body = await world.ask("GET", "/containers/web.1.t1/json")
    shown = body["NetworkSettings"]["Networks"]["my-net"]
    assert (shown["IPAddress"], shown["IPPrefixLen"]) == ("10.0.1.3", 24)
    assert (shown["GlobalIPv6Address"], shown["GlobalIPv6PrefixLen"]) == ("fd00:1::3", 64)
    assert shown["IPAMConfig"] == {"IPv4Address": "10.0.1.3", "IPv6Address": "fd00:1::3"}
    assert shown["MacAddress"] == "02:42:0a:00:01:03"


async def test_inspect_a_container(world):
    network = model.Network(id="net", spec=model.NetworkSpec(name="my-net"))
    task = model.Task(id="t1", networks=(model.NetworkAttachment(None, ("10.0.1.3/24",), ("alias",), "net"),))
    world.swarm.assigned = NodeState(tasks={"t1": model.TaskAssignment(task)}, networks={"net": network})
    world.runtime.running, world.runtime.held = (
        [container()],
        [image(env=("PATH=/bin", "A=1"), entrypoint=("/e",))],
    )
    for ref in ("c" * 64, "c" * 12, "web.1.t1"):
        status, body = await world.ask("GET", f"/containers/{ref}/json")
        assert (status, body["State"]["Pid"], body["Path"], body["Args"]) == (200, 77, "/e", ["sleep", "1 0"])
    assert body["Config"]["Env"] == ["A=2", "PATH=/bin"]
    assert body["NetworkSettings"]["Networks"]["my-net"]["IPAddress"] == "10.0.1.3"
    for name, count in (("my-net", 1), ("net", 1), ("my", 0)):
        query = {"filters": f'{{"network":["{name}"]}}'}
        assert len((await world.ask("GET", "/containers/json", params=query))[1]) == count
    assert await world.ask("GET", "/containers/web/json") == (404, {"message": "No such container: web"})
    assert await world.ask("POST", "/containers/web/stop") == (404, {"message": "No such container: web"})
    assert (await world.ask("POST", "/containers/web.1.t1/stop"))[0] == 501
    assert (await world.ask("DELETE", "/containers/web.1.t1"))[0] == 409


async def test_ports_that_the_image_exposes_and_those_of_the_node(world):
    ports = (
        model.PortConfig(protocol=model.PortProtocol.TCP, target_port=80, published_port=8085, publish_mode=model.PublishMode.HOST),
        model.PortConfig(protocol=model.PortProtocol.TCP, target_port=81, published_port=81, publish_mode=model.PublishMode.INGRESS),
    )  # fmt: skip
    world.swarm.assigned = NodeState(tasks={"t1": model.TaskAssignment(model.Task(id="t1", ports=ports))})
    world.runtime.held = [image(exposed_ports=("80/tcp", "443", "8000-8010/tcp"))]
    world.runtime.running = [container()]
    _, body = await world.ask("GET", "/containers/json")
    assert body[0]["Ports"] == [
        {"IP": "0.0.0.0", "PrivatePort": 80, "Type": "tcp", "PublicPort": 8085},
        {"PrivatePort": 443, "Type": "tcp"},
    ]
    _, body = await world.ask("GET", "/containers/web.1.t1/json")
    assert body["NetworkSettings"]["Ports"] == {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8085"}],
        "443/tcp": None,
    }
    assert "80/tcp" in body["Config"]["ExposedPorts"]
    world.runtime.running = [container(status=Status.STOPPED, exit=ExitStatus(0, NOW))]
    assert (await world.ask("GET", "/containers/json?all=1"))[1][0]["Ports"] == []


async def test_logs(world):
    world.runtime.running = [container()]
    world.runtime.entries = [LogEntry("stdout", NOW, b"one\n"), LogEntry("stderr", NOW, b"two\n")]
    path = "/containers/web.1.t1/logs"
    async with world.client.get(f"{path}?stdout=1&stderr=1") as response:
        assert response.content_type == "application/vnd.docker.multiplexed-stream"
        assert await response.read() == b"\1\0\0\0\0\0\0\4one\n\2\0\0\0\0\0\0\4two\n"
    async with world.client.get(f"{path}?stderr=1&timestamps=1") as response:
        assert (await response.read())[8:] == b"2026-11-21T02:20:20Z two\n"
    assert (await world.ask("GET", path))[0] == 400
    assert containers.frame("stdout", b"") == b"\1" + bytes(7)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (120, "2 minutes"),
        (3599, "59 minutes"), (3600, "About an hour"), (7200, "2 hours"), (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"), (14 * 86400, "2 weeks"), (60 * 86400, "2 months"), (3 * 365 * 86400, "3 years"),
    ],
)  # fmt: skip
def test_human_durations(seconds, text):
    assert container_shapes.human_duration(seconds) == text
