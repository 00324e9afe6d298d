"""Whole commands against the engine: the project's own command line always, the docker CLI where there is one."""

import asyncio
import os
import shutil
import sys

import pytest
from engine_fakes import World

from agent.engine import app, http
from common import model

SHOAL = (sys.executable, "-m", "cli.main")
CLIENTS = [pytest.param(SHOAL, id="shoal")]
if docker := shutil.which("docker"):
    CLIENTS.append(pytest.param((docker,), id="docker"))
ALREADY = (
    'Error response from daemon: This node is already part of a swarm. Use "docker swarm leave" to leave this swarm '
    "and join another one.\n"
)


class Shell:
    """Runs commands of one client against one engine."""

    def __init__(self, client, path, home):
        self.client, self.path, self.home = client, path, home

    async def __call__(self, *words):
        environment = {**os.environ, "DOCKER_HOST": f"unix://{self.path}", "HOME": str(self.home)}
        process = await asyncio.create_subprocess_exec(
            *self.client, *words, env=environment, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    async def good(self, *words):
        code, out, err = await self(*words)
        assert code == 0, err
        return out


@pytest.fixture(params=CLIENTS)
async def shell(request, tmp_path):
    world = World()
    world.manager.on_service = world.manager.run_tasks
    tokens = model.RootCA(join_tokens=model.JoinTokens("SWMTKN-1-w", "SWMTKN-1-m"))
    world.manager.cluster = model.Cluster(id="cluster", version=1, root_ca=tokens)
    for number, name in enumerate(("manager1", "worker1")):
        node = model.Node(
            id="300wtmonao8ij4nj0yazfkfga" if not number else "mseqvqglwscezaod1f00byvv3",
            version=number + 1,
            spec=model.NodeSpec(role=model.NodeRole.WORKER if number else model.NodeRole.MANAGER),
            description=model.NodeDescription(
                hostname=name, engine=model.EngineDescription(version="28.2.2"),
                platform=model.Platform("x86_64", "linux"),
            ),
            status=model.NodeStatus(model.NodeState.NODE_READY, "", f"192.0.2.{number + 1}"),
            manager_status=None if number else model.ManagerStatus(True, model.Reachability.REACHABLE, "192.0.2.1:2377"),
        )  # fmt: skip
        world.manager.add(node)
    path = tmp_path / "docker.sock"
    async with app.serve(world.engine, str(path)):
        yield Shell(request.param, path, tmp_path)


async def test_a_swarms_beginning(shell):
    code, _, err = await shell("node", "ls")
    assert code == 1
    assert err.startswith("Error response from daemon: This node is not a swarm manager. Use ")
    out = await shell.good("swarm", "init", "--advertise-addr", "eth0")
    assert "Swarm initialized: current node (300wtmonao8ij4nj0yazfkfga) is now a manager." in out
    assert " swarm join --token SWMTKN-1-w 192.0.2.1:2377" in out
    assert await shell("swarm", "init") == (1, "", ALREADY)
    lines = (await shell.good("node", "ls")).splitlines()
    assert lines[0].split() == [
        "ID",
        "HOSTNAME",
        "STATUS",
        "AVAILABILITY",
        "MANAGER",
        "STATUS",
        "ENGINE",
        "VERSION",
    ]
    assert lines[1].split() == [
        "300wtmonao8ij4nj0yazfkfga",
        "*",
        "manager1",
        "Ready",
        "Active",
        "Leader",
        "28.2.2",
    ]
    assert await shell("node", "ls", "--filter", "foo=bar") == (
        1, "", "Error response from daemon: Invalid filter 'foo'\n",
    )  # fmt: skip
    assert "Swarm: active" in await shell.good("info")


async def test_a_services_life(shell):
    await shell.good("swarm", "init")
    network = (await shell.good("network", "create", "-d", "overlay", "nginx-net")).strip()
    assert len(network) == 25
    code, _, err = await shell("network", "create", "-d", "overlay", "nginx-net")
    assert (code, err) == (1, "Error response from daemon: network with name nginx-net already exists\n")
    await shell.good(
        "service", "create", "--detach", "--name", "my-nginx", "--publish", "target=80,published=80", "--replicas=5",
        "--network", "nginx-net", "nginx",
    )  # fmt: skip
    listed = (await shell.good("service", "ls")).splitlines()[1].split()
    assert listed[1:5] == ["my-nginx", "replicated", "5/5", "nginx:latest"]
    rows = (await shell.good("service", "ps", "my-nginx")).splitlines()[1:]
    assert [row.split()[1:4] for row in rows[:2]] == [
        ["my-nginx.1", "nginx:latest", "manager1"], ["my-nginx.2", "nginx:latest", "worker1"],
    ]  # fmt: skip
    await shell.good("service", "scale", "--detach", "my-nginx=3")
    assert "3/3" in await shell.good("service", "ls")
    code, _, err = await shell("network", "rm", "nginx-net")
    assert (code, "is in use by service" in err) == (1, True)
    assert await shell.good("service", "rm", "my-nginx") == "my-nginx\n"
    assert await shell.good("network", "rm", "nginx-net") == "nginx-net\n"


async def test_images(shell):
    assert "Status: Downloaded newer image for nginx:latest" in await shell.good("pull", "nginx")
    assert (await shell.good("images")).splitlines()[1].split()[:2] == ["nginx", "latest"]
    code, _, err = await shell("pull", "nosuch")
    assert (code, "manifest unknown" in err) == (1, True)


async def test_what_must_not_stop_halfway_is_finished():
    began, go, done = asyncio.Event(), asyncio.Event(), []

    async def work():
        began.set()
        await go.wait()
        done.append(True)

    task = asyncio.create_task(http.finish(work()))
    await began.wait()
    task.cancel()  # the client went away
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done
