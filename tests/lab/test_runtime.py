"""The runtime against a real containerd of its own: images, the life of containers, and containerd's death."""

# ruff: noqa: ASYNC240 - blocking looks at small files are fine here
from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.runtime.api import ContainerConfig, EventKind, ExecConfig, Mount, Status, Ulimit
from agent.runtime.image import PullEvent
from agent.runtime.registry import RegistrySettings
from agent.runtime.service import ContainerdRuntime, RuntimeSettings
from common import errors
from common.ids import new_container_id
from tests.addresses import own_loopback
from tests.lab.containerd import OwnContainerd, busybox_layout
from tests.lab.support import until

pytestmark = pytest.mark.lab

IMAGE = "busybox:test"
PATIENCE = 60.0  # seconds for what usually takes less than one


@pytest.fixture(scope="module")
def containerd() -> Iterator[OwnContainerd]:
    root = Path(tempfile.mkdtemp(prefix="shoal-ctd-"))
    own = OwnContainerd(root)
    own.start()
    yield own
    own.stop()
    shutil.rmtree(root)


@asynccontextmanager
async def running(containerd: OwnContainerd, **settings: object) -> AsyncIterator[ContainerdRuntime]:
    runtime = ContainerdRuntime(
        RuntimeSettings(folder=containerd.root / "agent", socket=containerd.socket, **settings)
    )
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.close()


async def in_blocks(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 100_000):
        yield data[at : at + 100_000]


@pytest.fixture
async def runtime(containerd: OwnContainerd) -> AsyncIterator[ContainerdRuntime]:
    async with running(containerd) as made:
        if await made.image(IMAGE) is None:
            assert await made.load(in_blocks(busybox_layout(IMAGE))) == [IMAGE]
        yield made
        for state in await made.containers():
            await made.remove(state.id, force=True)


def shell(script: str, **more: object) -> ContainerConfig:
    id = new_container_id()
    return ContainerConfig(id=id, name=f"t-{id[:6]}", image=IMAGE, args=("sh", "-c", script), **more)


async def run(runtime: ContainerdRuntime, config: ContainerConfig) -> tuple[int, str]:
    """To its end: exit code and output."""
    await runtime.create(config)
    await runtime.start_container(config.id)
    ended = await asyncio.wait_for(runtime.wait(config.id), PATIENCE)
    return ended.code, await output(runtime, config.id)


async def output(runtime: ContainerdRuntime, id: str) -> str:
    lines = [entry.data async for entry in runtime.logs(id)]  # all of it, where its end was waited for
    return b"".join(lines).decode()


async def test_output_exit_code_and_settings(runtime: ContainerdRuntime) -> None:
    script = "hostname; cat /etc/hello; echo $IMAGE $MORE; echo wrong >&2; id; cat /proc/self/cgroup; exit 7"
    config = shell(
        script, env=("MORE=too",), hostname="fish", user="web", memory_bytes=64 << 20, nano_cpus=500_000_000,
        pids_limit=50, ulimits=(Ulimit("nofile", 100, 200),),
    )  # fmt: skip
    code, text = await run(runtime, config)
    assert code == 7
    for wanted in ("fish\n", "hello\n", "yes too\n", "wrong\n", "uid=101(web) gid=102(web)", "103(extra)"):
        assert wanted in text, (wanted, text)
    state = await runtime.container(config.id)
    assert state is not None
    assert (state.status, state.pid) == (Status.STOPPED, 0)
    streams = {entry.data: entry.stream async for entry in runtime.logs(config.id)}
    assert streams[b"wrong\n"] == "stderr"
    assert streams[b"fish\n"] == "stdout"


async def test_mounts_files_and_sysctls(runtime: ContainerdRuntime, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("from the node\n")
    config = shell(
        "cat /data/data /etc/hosts /etc/resolv.conf /etc/hostname /proc/sys/net/ipv4/ip_unprivileged_port_start;"
        "echo x > /data/new || echo read-only; echo y > /scratch/f && echo tmpfs; echo z > /z || echo root read-only;"
        "ls /sys/fs/cgroup",
        mounts=(Mount("bind", str(tmp_path), "/data", read_only=True), Mount("tmpfs", "", "/scratch")),
        read_only=True, extra_hosts=("10.1.2.3 friend", "other:10.1.2.4"), addresses=("10.0.0.5",),
        dns_search=("example.org",), hostname="fish",
    )  # fmt: skip
    code, text = await run(runtime, config)
    assert code == 0, text
    for wanted in (
        "from the node", "10.1.2.3\tfriend", "10.1.2.4\tother", "10.0.0.5\tfish", "nameserver 127.0.0.11",
        "search example.org", "options ndots:0", "\nfish\n", "\n0\n", "read-only\n", "tmpfs\n", "root read-only\n",
    ):  # fmt: skip
        assert wanted in text, (wanted, text)


async def test_errors_have_dockers_words(runtime: ContainerdRuntime) -> None:
    config = shell("true")
    gone = ContainerConfig(id=new_container_id(), name="x", image="redis:9.9.9")
    with pytest.raises(errors.NotFound, match=r"^No such image: redis:9\.9\.9$"):
        await runtime.create(gone)
    with pytest.raises(errors.NotFound, match=f"^No such container: {config.id}$"):
        await runtime.start_container(config.id)
    absent = ContainerConfig(id=config.id, name="x", image=IMAGE, command=("nosuch",))
    await runtime.create(absent)
    with pytest.raises(errors.AlreadyExists):
        await runtime.create(absent)
    with pytest.raises(
        errors.ShoalError, match=r"OCI runtime create failed: .*nosuch.*executable file not found"
    ):
        await runtime.start_container(config.id)
    with pytest.raises(errors.Conflict, match="is not running"):
        await runtime.kill(config.id, "SIGTERM")
    bind = shell("true", mounts=(Mount("bind", "/no/such/place", "/x"),))
    with pytest.raises(errors.InvalidArgument, match="bind source path does not exist: /no/such/place"):
        await runtime.create(bind)
    nobody = shell("true", user="nobody")
    with pytest.raises(errors.InvalidArgument, match="unable to find user nobody"):
        await runtime.create(nobody)
    assert not os.path.exists(runtime.folder(nobody.id))


async def test_stop_waits_the_grace_then_kills(runtime: ContainerdRuntime) -> None:
    stubborn = shell("trap '' TERM; sleep 1000 & wait; wait; sleep 1000")
    polite = shell("trap 'echo bye; exit 3' USR1; while :; do sleep 0.1; done", stop_signal="SIGUSR1")
    for config in (stubborn, polite):
        await runtime.create(config)
        await runtime.start_container(config.id)
    await wait_for(lambda: trapped(runtime, polite.id, 10))
    started = time.monotonic()
    assert (await runtime.stop(polite.id)).code == 3
    assert time.monotonic() - started < 9  # not after the usual grace
    assert "bye" in await output(runtime, polite.id)
    await wait_for(lambda: trapped(runtime, stubborn.id, 15))
    started = time.monotonic()
    assert (await runtime.stop(stubborn.id, grace_s=0.5)).code == 137
    assert 0.5 <= time.monotonic() - started < 9


async def trapped(runtime: ContainerdRuntime, id: str, number: int) -> bool:
    """Does its first process handle (or ignore) a signal yet?"""
    state = await runtime.container(id)
    assert state is not None
    masks = dict(line.split(":\t") for line in Path(f"/proc/{state.pid}/status").read_text().splitlines())
    return bool((int(masks["SigCgt"], 16) | int(masks["SigIgn"], 16)) >> (number - 1) & 1)


async def wait_for(condition: object, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_oom_kill_is_told_from_a_kill(runtime: ContainerdRuntime) -> None:
    greedy = shell("x=a; while :; do x=$x$x; done", memory_bytes=20 << 20)
    await runtime.create(greedy)
    await runtime.start_container(greedy.id)
    ended = await asyncio.wait_for(runtime.wait(greedy.id), PATIENCE)
    assert ended.code == 137
    assert ended.oom_killed
    killed = shell("sleep 100")
    await runtime.create(killed)
    await runtime.start_container(killed.id)
    await runtime.kill(killed.id)
    ended = await asyncio.wait_for(runtime.wait(killed.id), PATIENCE)
    assert (ended.code, ended.oom_killed) == (137, False)


async def test_wait_survives_containerds_death(runtime: ContainerdRuntime, containerd: OwnContainerd) -> None:
    config = shell("echo one; sleep 1000")
    await runtime.create(config)
    pid = await runtime.start_container(config.id)
    waiting = asyncio.create_task(runtime.wait(config.id))
    containerd.kill()
    # Its process ends while nobody is there to see it.
    second = shell("sleep 1000")
    creating = asyncio.create_task(runtime.create(second))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert os.path.exists(f"/proc/{pid}")
    containerd.start()
    await asyncio.wait_for(creating, PATIENCE)
    await asyncio.wait_for(runtime.start_container(second.id), PATIENCE)
    assert os.path.exists(f"/proc/{pid}")
    assert not waiting.done()
    containerd.kill()
    os.kill(pid, 9)
    containerd.start()
    assert (await asyncio.wait_for(waiting, PATIENCE)).code == 137
    state = await runtime.container(second.id)
    assert state is not None
    assert state.status is Status.RUNNING
    assert (await runtime.stop(second.id, "SIGKILL")).code == 137


async def test_a_new_runtime_adopts(runtime: ContainerdRuntime, containerd: OwnContainerd) -> None:
    lives = shell("i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.05; done")
    ends = shell("sleep 0.5; echo last words; exit 4")
    done = shell("exit 5")
    async with running(containerd) as first:
        for config in (lives, ends, done):
            await first.create(config)
            await first.start_container(config.id)
        assert (await first.wait(done.id)).code == 5
        pid = (await first.container(lives.id)).pid
        waiting = asyncio.create_task(first.wait(ends.id))
    waiting.cancel()
    async with running(containerd) as second:
        states = {state.id: state for state in await second.containers()}
        assert states[lives.id].pid == pid
        assert states[lives.id].config == lives
        assert states[done.id].exit is not None
        assert states[done.id].exit.code == 5
        assert (await asyncio.wait_for(second.wait(ends.id), PATIENCE)).code == 4
        assert await output(second, ends.id) == "last words\n"
        ticks = []
        async for entry in second.logs(lives.id, follow=True):
            ticks.append(entry.data)
            if len(ticks) == 30:
                break
        assert ticks == [f"tick {i}\n".encode() for i in range(30)]
        for config in (lives, ends, done):
            await second.remove(config.id, force=True)
            assert not os.path.exists(second.folder(config.id))


async def test_twenty_at_once(runtime: ContainerdRuntime) -> None:
    configs = [shell("sleep 1000") for _ in range(20)]

    async def life(config: ContainerConfig) -> int:
        await runtime.create(config)
        return await runtime.start_container(config.id)

    started = time.monotonic()
    pids = await asyncio.gather(*(life(config) for config in configs))
    print(f"20 containers in {time.monotonic() - started:.2f} s")
    assert len(set(pids)) == 20
    assert all(os.path.exists(f"/proc/{pid}") for pid in pids)
    started = time.monotonic()
    await asyncio.gather(*(runtime.remove(config.id, force=True) for config in configs))
    print(f"removed in {time.monotonic() - started:.2f} s")
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    assert await runtime.containers() == []


@pytest.mark.parametrize("delay", [0.1, 0.3, 0.6])
async def test_containerd_dies_amid_starts(
    runtime: ContainerdRuntime, containerd: OwnContainerd, delay: float
) -> None:
    """Whoever starts containers meanwhile sees delay, no failure; each runs once."""
    configs = [shell("echo started; sleep 1000") for _ in range(12)]

    async def life(config: ContainerConfig) -> int:
        await runtime.create(config)
        return await runtime.start_container(config.id)

    async def crash() -> None:
        await asyncio.sleep(delay)
        containerd.kill()
        containerd.start()

    crashing = asyncio.create_task(crash())
    pids = await asyncio.wait_for(asyncio.gather(*(life(config) for config in configs)), PATIENCE)
    await crashing
    assert len(set(pids)) == 12
    for config, pid in zip(configs, pids, strict=True):
        assert os.path.exists(f"/proc/{pid}")
        assert list(await runtime.processes(config.id)) == [pid]
        state = await runtime.container(config.id)
        assert state is not None
        assert (state.status, state.pid) == (Status.RUNNING, pid)
    await asyncio.gather(*(runtime.remove(config.id, force=True) for config in configs))
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    await nobody_is_left(containerd)


async def nobody_is_left(containerd: OwnContainerd) -> None:
    """A shim answers first and ends then."""

    async def gone() -> bool:
        return not containerd.shims()

    await wait_for(gone)


async def test_containerd_dies_amid_removals(runtime: ContainerdRuntime, containerd: OwnContainerd) -> None:
    configs = [shell("sleep 1000") for _ in range(8)]
    for config in configs:
        await runtime.create(config)
        await runtime.start_container(config.id)
    removing = asyncio.gather(*(runtime.remove(config.id, force=True) for config in configs))
    await asyncio.sleep(0.05)
    containerd.kill()
    containerd.start()
    await asyncio.wait_for(removing, PATIENCE)
    assert await runtime.containers() == []
    await nobody_is_left(containerd)


async def test_after_a_power_cut_containers_can_be_started_again(
    runtime: ContainerdRuntime, containerd: OwnContainerd
) -> None:
    config = shell("echo run >> /count; cat /count; sleep 1000")
    async with running(containerd) as before:
        await before.create(config)
        await before.start_container(config.id)
        await wait_for(lambda: has_output(before, config.id, b"run\n"))
    containerd.power_cut()
    containerd.start()
    async with running(containerd) as after:
        state = await after.container(config.id)
        assert state is not None
        assert state.status is Status.STOPPED
        assert state.exit is not None
        assert state.exit.code == 255
        assert (await after.wait(config.id)).code == 255
        await after.start_container(config.id)
        await wait_for(lambda: has_output(after, config.id, b"run\nrun\nrun\n"))
        await after.remove(config.id, force=True)


async def has_output(runtime: ContainerdRuntime, id: str, wanted: bytes) -> bool:
    return b"".join([entry.data async for entry in runtime.logs(id)]) == wanted


async def test_restart_of_a_container_keeps_its_files(runtime: ContainerdRuntime) -> None:
    config = shell("echo run >> /count; cat /count")
    assert await run(runtime, config) == (0, "run\n")
    await runtime.start_container(config.id)
    await runtime.wait(config.id)
    assert await output(runtime, config.id) == "run\nrun\nrun\n"


async def test_events(runtime: ContainerdRuntime) -> None:
    config = shell("exit 2")
    seen = []

    async def watch() -> None:
        async for event in runtime.watch():
            if event.kind is EventKind.RESYNC or event.id == config.id:
                seen.append((event.kind, event.exit.code if event.exit else None))
            if event.kind is EventKind.REMOVE:
                return

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    await run(runtime, config)
    await runtime.remove(config.id)
    await asyncio.wait_for(watching, PATIENCE)
    assert seen == [
        (EventKind.RESYNC, None), (EventKind.CREATE, None), (EventKind.START, None), (EventKind.EXIT, 2),
        (EventKind.REMOVE, 2),
    ]  # fmt: skip


async def test_exec(runtime: ContainerdRuntime) -> None:
    config = shell("sleep 1000", env=("A=b",))
    await runtime.create(config)
    await runtime.start_container(config.id)
    session = await runtime.exec(
        config.id, ExecConfig(("sh", "-c", "echo $A; echo no >&2; cat; exit 6"), stdin=True)
    )
    await session.write(b"typed\n")
    await session.close_stdin()
    found: dict[str, bytes] = {"stdout": b"", "stderr": b""}
    async for stream, data in session.output():
        found[stream] += data
    assert found == {"stdout": b"b\ntyped\n", "stderr": b"no\n"}
    assert await session.wait() == 6
    await session.close()
    terminal = await runtime.exec(config.id, ExecConfig(("sh",), tty=True, stdin=True, user="web"))
    await terminal.resize(100, 40)
    await terminal.write(b"stty size; id; exit 3\n")
    text = b"".join([data async for _, data in terminal.output()])
    assert b"40 100" in text
    assert b"uid=101(web)" in text
    assert await terminal.wait() == 3
    await terminal.close()
    assert not list(Path(runtime.folder(config.id)).glob("exec-*"))
    with pytest.raises(errors.ShoalError, match="executable file not found"):
        await runtime.exec(config.id, ExecConfig(("nosuch",)))
    stats = await runtime.stats(config.id)
    assert stats.pids == 1
    assert stats.memory_usage > 0
    assert len(await runtime.processes(config.id)) == 1


async def test_terminal(runtime: ContainerdRuntime) -> None:
    code, text = await run(runtime, shell("[ -t 0 ] && [ -t 1 ] && echo is a terminal $TERM", tty=True))
    assert (code, text) == (0, "is a terminal xterm\r\n")


async def test_ten_megabytes_of_output_are_kept(runtime: ContainerdRuntime) -> None:
    config = shell("seq 1 1300000")
    code, text = await run(runtime, config)
    assert code == 0
    lines = text.splitlines()
    wrong = next((n for n, line in enumerate(lines, 1) if line != str(n)), None)
    assert (len(lines), wrong) == (1_300_000, None)
    spool = Path(runtime.folder(config.id), "stdout.log")
    assert spool.stat().st_size > 9_000_000
    assert spool.stat().st_blocks * 512 < 3 << 20
    tail = [entry.data async for entry in runtime.logs(config.id, tail=2)]
    assert tail == [b"1299999\n", b"1300000\n"]


async def test_images(runtime: ContainerdRuntime) -> None:
    info = await runtime.image(IMAGE)
    assert info is not None
    assert info.tags == (IMAGE,)
    assert info.size > 1 << 20
    assert (await runtime.image(info.id[7:19])) == info
    await runtime.tag_image(IMAGE, "other/name:1")
    assert {tag for image in await runtime.images() for tag in image.tags} >= {IMAGE, "other/name:1"}
    removed = await runtime.remove_image("other/name:1")
    assert [item.untagged for item in removed] == ["other/name:1"]
    with pytest.raises(errors.NotFound, match=r"^No such image: other/name:1$"):
        await runtime.remove_image("other/name:1")


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    """A registry on loopback, as a mirror would run."""
    root = Path(tempfile.mkdtemp(prefix="shoal-reg-"))
    address = (own_loopback(1), 5000)
    config = root / "config.yml"
    config.write_text(
        f"version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {root}/data\n"
        f"http:\n  addr: {address[0]}:{address[1]}\n"
    )
    with (root / "log").open("wb") as log:
        server = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(address) == 0

    until(answers, 30, "the registry answers", every=0.02)
    yield f"{address[0]}:{address[1]}"
    server.terminate()
    server.wait()
    shutil.rmtree(root)


async def push(registry: str, name: str, layout: bytes) -> str:
    """The image of an OCI layout into a registry; answers with the manifest's digest."""
    import io
    import json
    import tarfile

    import aiohttp

    tar = tarfile.open(fileobj=io.BytesIO(layout))  # noqa: SIM115
    blobs = {n.rsplit("/", 1)[1]: tar.extractfile(n).read() for n in tar.getnames() if n.startswith("blobs/")}
    entry = json.loads(tar.extractfile("index.json").read())["manifests"][0]
    repository, _, tag = name.partition(":")
    base = f"http://{registry}/v2/{repository}"
    async with aiohttp.ClientSession() as http:
        for digest, data in blobs.items():
            async with http.post(f"{base}/blobs/uploads/") as answer:
                where = answer.headers["Location"]
            async with http.put(
                where, params={"digest": f"sha256:{digest}"}, data=io.BytesIO(data)
            ) as answer:
                assert answer.status == 201, await answer.text()
        manifest = blobs[entry["digest"][7:]]
        headers = {"Content-Type": entry["mediaType"]}
        async with http.put(f"{base}/manifests/{tag}", data=manifest, headers=headers) as answer:
            assert answer.status == 201, await answer.text()
    return str(entry["digest"])


async def test_pull(containerd: OwnContainerd, registry: str) -> None:
    digest = await push(registry, "library/web:1", busybox_layout("web:1", Labels={"fresh": "one"}))
    settings = RegistrySettings(mirrors=(f"http://{registry}",), insecure=())
    async with running(containerd, namespace="pulling", registry=settings) as runtime:
        said: list[PullEvent] = []
        infos = await asyncio.gather(
            runtime.pull("web:1", None, said.append), *(runtime.pull("web:1") for _ in range(4))
        )
        assert all(info == infos[0] for info in infos)
        assert infos[0].tags == ("web:1",)
        assert infos[0].digests == (f"web@{digest}",)
        words = [event.status for event in said]
        assert words[0] == "Pulling from library/web"
        assert words[-2:] == [f"Digest: {digest}", "Status: Downloaded newer image for web:1"]
        assert words.count("Pull complete") == 2
        assert "Downloading" in words
        await runtime.pull("web:1", None, said.append)
        assert said[-1].status == "Status: Image is up to date for web:1"
        pinned = await runtime.image(f"web:1@{digest}")
        assert pinned is not None
        assert (await runtime.distribution("web:1")).descriptor.digest == digest
        assert (await runtime.distribution("web:1")).platforms[0].os == "linux"
        with pytest.raises(errors.NotFound, match="manifest unknown"):
            await runtime.pull(f"{registry}/library/web:2")
        # By digest without asking anyone.
        assert (await runtime.pull(f"web:7@{digest}")).id == infos[0].id
        own = await runtime.pull(f"{registry}/library/web:1")
        assert f"{registry}/library/web:1" in own.tags
        config = ContainerConfig(
            id=new_container_id(), name="w", image=f"web:1@{digest}", args=("cat", "/etc/hello")
        )
        assert await run(runtime, config) == (0, "hello\n")
        await runtime.remove(config.id)


async def test_pull_survives_containerds_death(containerd: OwnContainerd, registry: str) -> None:
    layout = busybox_layout("big:1", Labels={"fresh": "two"})
    digest = await push(registry, "big:1", layout)
    async with running(containerd, namespace="pulling2") as runtime:

        def progress(event: PullEvent) -> None:
            if event.status == "Downloading" and not killed:
                killed.append(event)
                containerd.kill()
                containerd.start()

        killed: list[PullEvent] = []
        info = await asyncio.wait_for(runtime.pull(f"{registry}/big:1", None, progress), PATIENCE)
        assert info.digests == (f"{registry}/big@{digest}",)
        assert killed
