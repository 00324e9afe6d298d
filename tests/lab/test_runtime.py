"""The runtime against a real containerd of its own: the life of containers, what they say and what is done to them."""

# ruff: noqa: ASYNC240 - blocking looks at small files are fine here
from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from agent.runtime.api import ContainerConfig, EventKind, ExecConfig, Mount, Status, Ulimit
from agent.runtime.service import ContainerdRuntime
from common import errors
from common.ids import new_container_id
from tests.lab.runtimes import IMAGE, PATIENCE, output, run, shell, wait_for

pytestmark = pytest.mark.lab


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
