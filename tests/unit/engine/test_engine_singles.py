"""Single containers by the Engine API: recorded exchanges' statuses and texts, and connections that are taken over."""

import asyncio
import dataclasses
import struct

import pytest
from engine_fakes import image

from agent.runtime.api import ContainerState, ExitStatus, Status
from common import errors

BODY = {"Image": "nginx", "Cmd": ["sh"], "HostConfig": {"NetworkMode": "none"}}


class Process:
    """The streams of a process that says what it hears, until its input ends."""

    def __init__(self):
        self.id, self.pid, self.heard = "p", 77, b""
        self.pieces, self.closed = asyncio.Queue(), False

    async def output(self):
        while (piece := await self.pieces.get()) is not None:
            yield piece

    async def write(self, data):
        self.heard += data
        await self.pieces.put(("stdout", data))

    async def close_stdin(self):
        await self.pieces.put(("stderr", b"end\n"))
        await self.pieces.put(None)

    async def wait(self):
        return 3


class Attached(Process):
    def close(self):
        self.closed = True


class ExecSession(Process):
    async def close(self):
        self.closed = True


@pytest.fixture
async def engine(world, tmp_path):
    """An engine whose runtime keeps containers."""
    runtime = world.runtime
    runtime.held = [image()]
    runtime.attached = Attached()

    def change(id, **values):
        runtime.running = [dataclasses.replace(c, **values) if c.id == id else c for c in runtime.running]

    async def create(config):
        if config.image != "nginx":
            raise errors.NotFound(f"No such image: {config.image}:latest")
        (tmp_path / config.id).mkdir()
        runtime.running.append(
            ContainerState(config.id, config.name, config.image, config.labels, Status.CREATED, config=config)
        )

    async def container(id):
        return next((c for c in runtime.running if c.id == id), None)

    async def start_container(id):
        change(id, status=Status.RUNNING, pid=9)
        return 9

    async def stop(id, signal="", grace_s=None):
        change(id, status=Status.STOPPED, pid=0, exit=ExitStatus(143))

    async def remove(id, force=False):
        runtime.running = [c for c in runtime.running if c.id != id]

    async def wait(id, condition="not-running"):
        return ExitStatus(5)

    async def attach(id, stdin=False):
        return runtime.attached

    async def exec_(id, config):
        if config.args == ("nosuch",):
            raise errors.InvalidArgument('OCI runtime exec failed: exec: "nosuch": executable file not found')
        runtime.session = ExecSession()
        return runtime.session

    for name, function in (
        ("create", create), ("container", container), ("start_container", start_container), ("stop", stop),
        ("remove", remove), ("wait", wait), ("attach", attach), ("exec", exec_),
    ):  # fmt: skip
        setattr(runtime, name, function)

    async def readdress(id, addresses):
        assert addresses == ("172.17.0.2",)

    async def relink(id, hosts, env):
        runtime.links = (list(hosts), list(env))

    runtime.readdress, runtime.folder = readdress, lambda id: str(tmp_path / id)
    runtime.relink = relink
    task = asyncio.create_task(world.execs.run())
    await asyncio.sleep(0)
    yield world
    task.cancel()
    await asyncio.wait([task])


async def made(engine, name="one", **more):
    status, body = await engine.ask("POST", f"/containers/create?name={name}", {**BODY, **more})
    assert status == 201, body
    assert body["Warnings"] == []
    return body["Id"]


async def upgraded(engine, path, body=b""):
    """The answer's head, and the connection after it."""
    server = engine.client.server
    reader, writer = await asyncio.open_connection(server.host, server.port)
    kind = "application/json" if body else "text/plain"
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode()
        + body
    )
    async with asyncio.timeout(10):
        return (await reader.readuntil(b"\r\n\r\n")).decode(), reader, writer


def framed(number, data):
    return struct.pack(">BxxxI", number, len(data)) + data


async def test_a_life(engine):
    one = await made(engine)
    status, body = await engine.ask("POST", "/containers/create?name=one", BODY)
    assert (status, body["message"].partition(" by ")[0]) == (
        409, 'Conflict. The container name "/one" is already in use',
    )  # fmt: skip
    assert await engine.ask("POST", "/containers/create", {**BODY, "Image": "alpine"}) == (
        404, {"message": "No such image: alpine:latest"},
    )  # fmt: skip
    assert (await engine.ask("GET", "/containers/json"))[1] == []
    assert (await engine.ask("POST", "/containers/one/start"))[0] == 204
    assert (await engine.ask("POST", "/containers/one/start"))[0] == 304
    (shown,) = (await engine.ask("GET", "/containers/json"))[1]
    assert (shown["Names"], shown["HostConfig"], list(shown["NetworkSettings"]["Networks"])) == (
        ["/one"], {"NetworkMode": "none"}, ["none"],
    )  # fmt: skip
    assert await engine.ask("DELETE", "/containers/one") == (
        409,
        {
            "message": f"You cannot remove a running container {one}. "
            "Stop the container before attempting removal or force remove"
        },
    )
    assert await engine.ask("POST", "/containers/one/wait?condition=next-exit") == (200, {"StatusCode": 5})
    assert (await engine.ask("POST", "/containers/one/stop?t=1"))[0] == 204
    assert (await engine.ask("POST", "/containers/one/stop"))[0] == 304
    assert await engine.ask("POST", "/containers/one/wait") == (200, {"StatusCode": 143})
    status, body = await engine.ask("POST", "/containers/one/kill")
    assert (status, body["message"]) == (409, f"cannot kill container: one: container {one} is not running")
    assert (await engine.ask("DELETE", "/containers/one"))[0] == 204
    assert await engine.ask("POST", "/containers/one/stop") == (404, {"message": "No such container: one"})


async def test_bad_names_and_conditions(engine):
    assert (await engine.ask("POST", "/containers/create?name=-x", BODY))[0] == 400
    await made(engine)
    assert (await engine.ask("POST", "/containers/one/wait?condition=never"))[0] == 400
    assert (await engine.ask("POST", "/containers/one/stop?t=x"))[0] == 400


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("stop?t=x", 'strconv.Atoi: parsing "x": invalid syntax'), ("restart?t=x", 'strconv.Atoi: parsing "x": invalid syntax'),
        ("kill?signal=x", "invalid signal: x"), ("resize?h=x&w=1", 'invalid resize height "x": invalid syntax'),
        ("rename", "Neither old nor new names may be empty"),
    ],
)  # fmt: skip
async def test_what_is_asked_for_is_looked_at_before_the_container(engine, path, text):
    assert await engine.ask("POST", f"/containers/nosuch/{path}") == (400, {"message": text})


async def test_a_new_name_is_refused_as_docker_writes_names(engine):
    await made(engine)
    for asked, shown in (("a b", "/a b"), ("/", "/")):
        status, body = await engine.ask("POST", "/containers/one/rename", params={"name": asked})
        assert (status, body["message"].partition(", only")[0]) == (
            400, f"Error when allocating new name: Invalid container name ({shown})",
        )  # fmt: skip


async def test_a_container_that_waits_to_be_started_again(engine, monkeypatch):
    one = await made(engine)
    monkeypatch.setattr(engine.singles.restarts, "waits", lambda _: True)
    waits = f"Container {one} is restarting, wait until the container is running"
    assert await engine.ask("GET", "/containers/one/top") == (409, {"message": waits})
    assert await engine.ask("POST", "/containers/one/exec", {"Cmd": ["ls"]}) == (409, {"message": waits})
    status, body = await engine.ask("DELETE", "/containers/one")
    assert (status, body["message"].partition(". ")[0]) == (
        409, f"You cannot remove a restarting container {one}",
    )  # fmt: skip


async def test_one_end_of_a_prune(engine):
    query = {"filters": '{"until": ["1", "2"]}'}
    assert await engine.ask("POST", "/containers/prune", params=query) == (
        400, {"message": "more than one until filter specified"},
    )  # fmt: skip


async def test_inspection_of_a_single_container(engine):
    await made(engine, Hostname="h", AttachStdout=True, HostConfig={"AutoRemove": True})
    await engine.ask("POST", "/containers/one/start")
    _, shown = await engine.ask("GET", "/containers/one/json")
    assert (shown["HostConfig"]["NetworkMode"], shown["HostConfig"]["AutoRemove"]) == ("bridge", True)
    assert (shown["Config"]["AttachStdout"], shown["Config"]["Hostname"]) == (True, "h")
    assert shown["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] == "172.17.0.2"


async def test_attach_frames_output_and_ends_input_once(engine):
    await made(engine, OpenStdin=True, StdinOnce=True)
    head, reader, writer = await upgraded(
        engine, "/v1.42/containers/one/attach?stdin=1&stdout=1&stderr=1&stream=1"
    )
    assert head.startswith("HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream")
    writer.write(b"hello\n")
    assert await reader.readexactly(14) == framed(1, b"hello\n")
    writer.write_eof()
    assert await reader.read() == framed(2, b"end\n")
    writer.close()
    assert engine.runtime.attached.closed


async def test_a_terminal_is_left_by_its_keys(engine):
    await made(engine, OpenStdin=True, Tty=True)
    head, reader, writer = await upgraded(engine, "/containers/one/attach?stdin=1&stdout=1&stream=1")
    assert "application/vnd.docker.raw-stream" in head
    writer.write(b"ls\r\x10\x11never")
    assert await reader.read() == b"ls\r"
    writer.close()
    assert engine.runtime.attached.heard == b"ls\r"


async def test_exec(engine):
    one = await made(engine)
    asked = {"Cmd": ["cat", "-"], "AttachStdin": True, "AttachStdout": True, "AttachStderr": True}
    assert (await engine.ask("POST", "/containers/one/exec", asked))[0] == 409
    await engine.ask("POST", "/containers/one/start")
    status, body = await engine.ask("POST", "/containers/one/exec", asked)
    assert status == 201
    path = f"/exec/{body['Id']}"
    _, reader, writer = await upgraded(engine, f"/v1.41{path}/start", b'{"Detach":false}')
    writer.write(b"in")
    assert await reader.readexactly(10) == framed(1, b"in")
    assert (await engine.ask("GET", f"{path}/json"))[1]["Running"] is True
    assert (await engine.ask("GET", "/containers/one/json"))[1]["ExecIDs"] == [body["Id"]]
    writer.write_eof()
    assert await reader.read() == framed(2, b"end\n")
    writer.close()
    _, shown = await engine.ask("GET", f"{path}/json")
    assert (shown["Running"], shown["ExitCode"], shown["Pid"], shown["ContainerID"]) == (False, 3, 77, one)
    assert shown["ProcessConfig"]["arguments"] == ["-"]
    assert (await engine.ask("POST", f"{path}/start", {}))[0] == 409
    assert await engine.ask("GET", "/exec/nosuch/json") == (404, {"message": "No such exec instance: nosuch"})


async def test_exec_of_what_is_not_there_is_said_in_the_stream(engine):
    await made(engine)
    await engine.ask("POST", "/containers/one/start")
    _, body = await engine.ask("POST", "/containers/one/exec", {"Cmd": ["nosuch"], "AttachStdout": True})
    _, reader, writer = await upgraded(engine, f"/exec/{body['Id']}/start", b"{}")
    assert b"executable file not found\r\n" in await reader.read()
    writer.close()
    assert (await engine.ask("GET", f"/exec/{body['Id']}/json"))[1]["ExitCode"] == 126


async def test_containers_of_tasks_are_left_to_their_service(engine):
    await made(engine, Labels={"com.docker.swarm.task.id": "t1"})
    for verb, path in (("POST", "/containers/one/start"), ("DELETE", "/containers/one")):
        status, body = await engine.ask(verb, path)
        assert (status, "containers of tasks is not supported" in body["message"]) == (501, True)


async def test_prune_takes_what_does_not_run(engine):
    one = await made(engine)
    await made(engine, "two")
    await engine.ask("POST", "/containers/two/start")
    assert (await engine.ask("POST", "/containers/prune"))[1] == {
        "ContainersDeleted": [one], "SpaceReclaimed": 0,
    }  # fmt: skip


async def test_a_start_that_fails_is_told_by_inspect_ps_and_wait(engine):
    one = await made(engine)
    why = 'OCI runtime create failed: exec: "sh": executable file not found in $PATH: unknown'

    async def start_container(id):
        raise errors.ShoalError(why)

    engine.runtime.start_container = start_container
    assert await engine.ask("POST", "/containers/one/start") == (400, {"message": why})
    _, shown = await engine.ask("GET", "/containers/one/json")
    state = shown["State"]
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("created", 127, why)
    assert await engine.ask("POST", "/containers/one/wait") == (
        200, {"StatusCode": 127, "Error": {"Message": why}},
    )  # fmt: skip
    (engine.runtime.running[0],) = (
        dataclasses.replace(c, status=Status.STOPPED, exit=ExitStatus(0, 1)) for c in engine.runtime.running
    )
    (shown,) = (await engine.ask("GET", '/containers/json?filters={"exited":["127"]}'))[1]
    assert (shown["Id"], shown["Status"].partition(")")[0]) == (one, "Exited (127")


async def hang_up(engine, path, begun, body=b""):
    """A client that goes away in the middle of a request."""
    server = engine.client.server
    _, writer = await asyncio.open_connection(server.host, server.port)
    kind = "application/json" if body else "text/plain"
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    async with asyncio.timeout(10):
        await begun.wait()
        writer.close()
        await writer.wait_closed()


class Slow:
    """A call of the runtime that waits for its leave."""

    def __init__(self, then):
        self.begun, self.goes, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.cut = False
        self.then = then

    async def __call__(self, *args):
        self.begun.set()
        try:
            await self.goes.wait()
            return await self.then(*args)
        except asyncio.CancelledError:
            self.cut = True
            raise
        finally:
            self.ended.set()


@pytest.mark.parametrize("what", ["start", "stop", "kill"])
async def test_a_client_that_hangs_up_cuts_nothing_off(engine, what):
    one = await made(engine)
    if what != "start":
        await engine.ask("POST", "/containers/one/start")
    name = {"start": "start_container"}.get(what, what)

    async def kill(id, signal):
        await engine.runtime.stop(id)

    slow = Slow(kill if what == "kill" else getattr(engine.runtime, name))
    there = engine.runtime.stop
    setattr(engine.runtime, name, slow)
    if what == "kill":
        engine.runtime.stop = there
    await hang_up(engine, f"/containers/{one}/{what}", slow.begun)
    asked = asyncio.create_task(engine.ask("GET", "/containers/one/json"))
    await asked  # the server has had its time to hear of the end
    slow.goes.set()
    async with asyncio.timeout(10):
        await slow.ended.wait()
        while True:
            status, shown = await engine.ask("GET", "/containers/one/json")
            if (shown["State"]["Status"], status) == ("running" if what == "start" else "exited", 200):
                break
    assert not slow.cut
    assert engine.singles.record(one).stopped is (what != "start")


async def test_a_process_lives_on_whose_client_hangs_up_at_its_start(engine):
    await made(engine)
    await engine.ask("POST", "/containers/one/start")
    for detach in (b"true", b"false"):
        _, body = await engine.ask("POST", "/containers/one/exec", {"Cmd": ["cat"], "AttachStdout": True})
        there = engine.runtime.exec
        engine.runtime.exec = slow = Slow(there)
        await hang_up(engine, f"/exec/{body['Id']}/start", slow.begun, b'{"Detach":' + detach + b"}")
        await engine.ask("GET", f"/exec/{body['Id']}/json")
        slow.goes.set()
        engine.runtime.exec = there
        async with asyncio.timeout(10):
            while not (shown := (await engine.ask("GET", f"/exec/{body['Id']}/json"))[1])["Running"]:
                assert shown["ExitCode"] is None
        assert not slow.cut
        await engine.runtime.session.close_stdin()
        async with asyncio.timeout(10):
            while (await engine.ask("GET", f"/exec/{body['Id']}/json"))[1]["ExitCode"] != 3:
                pass


async def test_folders_that_cannot_be_made(engine, tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "below"
    status, body = await engine.ask(
        "POST", "/containers/create?name=two", {**BODY, "HostConfig": {"Binds": [f"{path}:/x"]}}
    )
    assert (status, body["message"].partition(": mkdir ")[0]) == (
        500, f"error while creating mount source path '{path}'",
    )  # fmt: skip
    assert "not a directory" in body["message"]


async def test_a_client_that_ends_its_input_leaves_where_the_input_is_not_its_own(engine):
    await made(engine, OpenStdin=True)
    _, reader, writer = await upgraded(engine, "/containers/one/attach?stdin=1&stdout=1&stream=1")
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    assert engine.runtime.attached.closed and engine.runtime.attached.pieces.empty()


async def test_who_is_in_anothers_network_has_its_name(engine):
    other = await made(engine, "other", Hostname="box", Domainname="example.com")
    await made(engine, HostConfig={"NetworkMode": "container:other"})
    _, shown = await engine.ask("GET", "/containers/one/json")
    assert (shown["Config"]["Hostname"], shown["Config"]["Domainname"]) == ("box", "example.com")
    assert shown["HostConfig"]["NetworkMode"] == f"container:{other}"


async def test_platforms(engine):
    for wanted, status in (("linux/amd64", 201), ("linux/arm64", 404), ("linux", 201), ("plan9", 400)):
        path = f"/containers/create?name=for-{status}-{len(wanted)}&platform={wanted}"
        assert (await engine.ask("POST", path, BODY))[0] == status, wanted


async def test_what_docker_looks_at_before_the_container(engine):
    assert (await engine.ask("GET", "/containers/nosuch/logs"))[0] == 400
    assert (await engine.ask("POST", "/containers/nosuch/exec", {}))[0] == 400
    status, body = await engine.ask("POST", "/containers/nosuch/kill")
    assert (status, body["message"]) == (404, "cannot kill container: nosuch: No such container: nosuch")
    assert (await engine.ask("POST", "/containers/create", {**BODY, "Image": "BAD NAME"}))[0] == 400


async def test_a_start_takes_no_settings(engine):
    await made(engine)
    status, body = await engine.ask("POST", "/containers/one/start", {"Binds": ["/a:/b"]})
    assert (status, "non-empty request body" in body["message"]) == (400, True)
    assert (await engine.ask("POST", "/containers/one/start", {}))[0] == 204


async def test_sizes(engine):
    await made(engine)

    async def layer_size(id):
        return 4096

    engine.runtime.layer_size = layer_size
    _, (shown,) = await engine.ask("GET", "/containers/json?all=1&size=1")
    assert (shown["SizeRw"], shown["SizeRootFs"]) == (4096, 4096 + image().size)
    assert "SizeRw" not in (await engine.ask("GET", "/containers/one/json"))[1]
    assert (await engine.ask("GET", "/containers/one/json?size=1"))[1]["SizeRw"] == 4096


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("GET", "/containers/one/stats", 501), ("GET", "/containers/one/attach/ws", 501),
        ("PUT", "/containers/one/archive", 501), ("POST", "/commit?container=one", 501),
        ("GET", "/containers/nosuch/stats", 404), ("POST", "/containers/one/fly", 404),
        ("POST", "/volumes/prune", 200), ("POST", "/build/prune", 200),
    ],
)  # fmt: skip
async def test_what_is_not_built(engine, verb, path, status):
    await made(engine)
    assert (await engine.ask(verb, path))[0] == status


async def test_a_detached_exec_of_what_is_not_there_is_a_mistake_of_who_asks(engine):
    await made(engine)
    await engine.ask("POST", "/containers/one/start")

    async def refuse(id, config):
        raise errors.ShoalError('OCI runtime exec failed: exec: "nosuch": executable file not found in $PATH')

    engine.runtime.exec = refuse
    _, body = await engine.ask("POST", "/containers/one/exec", {"Cmd": ["nosuch"]})
    status, said = await engine.ask("POST", f"/exec/{body['Id']}/start", {"Detach": True})
    assert (status, "executable file not found" in said["message"]) == (400, True)


async def test_links_on_the_default_bridge(engine):
    async def refused(links, mode="bridge", **more):
        status, answer = await engine.ask(
            "POST",
            "/containers/create",
            {**BODY, "HostConfig": {"NetworkMode": mode, "Links": links}, **more},
        )
        return status, answer["message"]

    other = await made(engine, "other", HostConfig={})
    assert await refused(["a:b:c"]) == (500, "bad format for links: a:b:c")
    assert await refused(["nosuch:x"]) == (
        400, "could not get container for nosuch: No such container: nosuch",
    )  # fmt: skip
    undefined = "can't be used with links. This would result in undefined behavior"
    assert await refused(["other:x"], "host") == (
        400, f"conflicting options: host type networking {undefined}",
    )  # fmt: skip
    assert await refused(["other:x"], "container:other") == (
        400, f"conflicting options: container type network {undefined}",
    )  # fmt: skip
    links = ["other:db", "/other:/before/web", "other:db"]
    me = await made(engine, "me", HostConfig={"Links": links})
    assert await engine.ask("POST", f"/containers/{me}/start") == (
        500, {"message": "Cannot link to a non running container: /other AS /me/db"},
    )  # fmt: skip
    _, shown = await engine.ask("GET", "/containers/me/json")
    assert shown["HostConfig"]["Links"] == ["/other:/me/db", "/other:/me/web"]
    _, shown = await engine.ask("GET", "/containers/me/db/json")
    assert (shown["Id"], shown["HostConfig"]["Links"]) == (other, None)
    _, listed = await engine.ask("GET", "/containers/json?all=1")
    assert {c["Id"]: c["Names"] for c in listed} == {other: ["/me/db", "/me/web", "/other"], me: ["/me"]}
    status, body = await engine.ask("DELETE", "/containers/other?link=1")
    assert (status, body["message"]) == (
        500, "Conflict, cannot remove the default link name of the container",
    )  # fmt: skip
    assert (await engine.ask("DELETE", "/containers/me/db?link=1"))[0] == 204
    assert (await engine.ask("DELETE", "/containers/me/db?link=1"))[0] == 404
    assert (await engine.ask("GET", "/containers/me/json"))[1]["HostConfig"]["Links"] == ["/other:/me/web"]


async def test_links_in_a_network_with_names(engine):
    await engine.ask("POST", "/networks/create", {"Name": "net"})
    endpoints = {"EndpointsConfig": {"net": {"Links": ["later:db"], "Aliases": ["al"]}}}
    host = {"NetworkMode": "net", "Links": ["nosuch:x"]}  # what counts there is said of the network
    me = await made(engine, "me", HostConfig=host, NetworkingConfig=endpoints)
    _, shown = await engine.ask("GET", "/containers/me/json")
    found = shown["NetworkSettings"]["Networks"]["net"]
    assert (shown["HostConfig"]["Links"], found["Links"], found["Aliases"]) == (None, ["later:db"], ["al"])
    assert (await engine.ask("POST", "/networks/net/disconnect", {"Container": "me"}))[0] == 200
    body = {"Container": "me", "EndpointConfig": {"Links": ["a:b:c"]}}
    assert await engine.ask("POST", "/networks/net/connect", body) == (
        500, {"message": "bad format for links: a:b:c"},
    )  # fmt: skip
    body = {"Container": "me", "EndpointConfig": {"Links": ["other"]}}
    assert (await engine.ask("POST", "/networks/net/connect", body))[0] == 200
    found = (await engine.ask("GET", "/containers/me/json"))[1]["NetworkSettings"]["Networks"]["net"]
    assert (found["Links"], found["Aliases"], found["DNSNames"]) == (["other"], None, ["me", me[:12]])
