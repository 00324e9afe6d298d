"""One lab for the whole run, booted once: three machines in one swarm, two more that join it as managers for the tests
that come last. Journals are printed when a test fails. What takes a minute of waiting and no machines runs beside the first tests."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.runtime.service import ContainerdRuntime
from tests.lab import serf
from tests.lab.containerd import OwnContainerd, busybox_layout
from tests.lab.managers import MANAGERS, UP, Managers
from tests.lab.runtimes import IMAGE, in_blocks, running
from tests.lab.support import LAB, Lab

JOURNAL_LINES = "60"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs no machines first, then one manager, then three; the test that takes the lab down last."""

    def place(item: pytest.Item) -> int:
        if waits(item):
            return 1
        if "lab" not in getattr(item, "fixturenames", ()):
            return 0
        if item.get_closest_marker("last"):
            return 4
        return 3 if of_managers(item) else 2

    items.sort(key=place)


def of_managers(item: pytest.Item) -> bool:
    return "managers" in getattr(item, "fixturenames", ())


def waits(item: pytest.Item) -> bool:
    return "serf_minutes" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session")
def serf_minutes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[None]]:
    """A member of ours among serf's, in a thread of its own."""
    with ThreadPoolExecutor(1, thread_name_prefix="serf") as pool:
        yield pool.submit(lambda: asyncio.run(serf.minutes(tmp_path_factory.mktemp("serf"))))


@pytest.fixture(scope="session", autouse=True)
def _begun_early(request: pytest.FixtureRequest) -> None:
    """What is only waited for later begins with the first test here."""
    if any(waits(item) for item in request.session.items):
        request.getfixturevalue("serf_minutes")


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Machines, installed and booted; taken away at the end (LAB_KEEP=1 leaves them for a look).

    Three, and two more where a test needs them: those are on, and in no swarm until then.
    """
    made = Lab()
    made.tool("down")
    wanted = UP if any(of_managers(item) for item in request.session.items) else ("up", "--nodes", "3")
    subprocess.run([str(LAB), *wanted], check=True, timeout=600)
    made.read_env()
    for name in MANAGERS[1:]:
        if name in made.machines:
            made.spare[name] = made.machines.pop(name)
    yield made
    if not os.environ.get("LAB_KEEP"):
        made.tool("down")


@pytest.fixture(scope="session")
def swarm(lab: Lab) -> Lab:
    """A swarm of the three, joined from shells as a tutorial says, with an overlay network and a published service."""
    manager = lab.manager
    manager.shoal("swarm", "init", "--advertise-addr", manager.addr)
    token = manager.shoal("swarm", "join-token", "-q", "worker").stdout.strip()
    for name in ("worker1", "worker2"):
        joined = lab.machines[name].shoal("swarm", "join", "--token", token, f"{manager.addr}:2377")
        assert "This node joined a swarm as a worker." in joined.stdout
    manager.docker("network", "create", "-d", "overlay", "nginx-net")
    return lab


@pytest.fixture(scope="session")
def three_managers(swarm: Lab) -> Managers:
    """The spare machines join the swarm as managers; from here on no test may need the swarm of three."""
    whole = Managers({**swarm.machines, **swarm.spare})
    for machine in swarm.spare.values():
        whole.join(machine, "manager", whole.manager)
    return whole


@pytest.fixture
def managers(three_managers: Managers, say: Callable[[str], None]) -> Managers:
    """All five well, whatever the test before has done, and the services that must not notice anything."""
    three_managers.ensure(say)
    three_managers.services()
    return three_managers


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints for whoever reads the run, also of a test that passes."""

    def tell(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}", flush=True)

    return tell


@pytest.fixture(scope="module")
def containerd() -> Iterator[OwnContainerd]:
    root = Path(tempfile.mkdtemp(prefix="shoal-ctd-"))
    own = OwnContainerd(root)
    own.start()
    yield own
    own.stop()
    shutil.rmtree(root)


@pytest.fixture
async def runtime(containerd: OwnContainerd) -> AsyncIterator[ContainerdRuntime]:
    """A runtime that has an image; nothing of what a test makes stays."""
    async with running(containerd) as made:
        if await made.image(IMAGE) is None:
            assert await made.load(in_blocks(busybox_layout(IMAGE))) == [IMAGE]
        yield made
        for state in await made.containers():
            await made.remove(state.id, force=True)


WEB = "my-nginx"


@pytest.fixture
def web(swarm: Lab) -> Lab:
    """my-nginx with five replicas on port 80, made where it is missing, scaled back where a test changed it."""
    manager = swarm.manager
    if WEB not in manager.docker("service", "ls", "--format", "{{.Name}}").stdout.split():
        manager.docker(
            "service", "create", "--detach", "--name", WEB, "--publish", "target=80,published=80", "--replicas=5",
            "--network", "nginx-net", "nginx",
        )  # fmt: skip
    manager.docker("service", "scale", "--detach", f"{WEB}=5")
    swarm.wait_running(WEB, 5)
    return swarm


@pytest.fixture
def served(web: Lab) -> Lab:
    """The same, and every machine sends to these five and to nobody else."""
    web.wait_served(80, 5)
    return web


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Adds the machines' journals and the swarm's tables to a failed test's report."""
    report = yield
    if report.failed and "lab" in getattr(item, "fixturenames", ()):
        several = MANAGERS[1:] if of_managers(item) else ()
        # First, for a long report may be cut: tasks that have failed say why.
        tasks = shown("exec", "manager", "sh", "-c", "shoal service ps --no-trunc $(shoal service ls -q)")
        report.sections.append(("manager: service ps of all", tasks))
        for name in ("manager", *several, "worker1", "worker2"):
            # Each by itself: one that is asked ten times a second must not drown what another one has said.
            for unit in ("shoal-agent", "shoal-manager", "containerd"):
                said = shown("logs", name, "-u", unit, "-o", "short-precise", "-n", JOURNAL_LINES)
                report.sections.append((f"journal of {unit} on {name}", said))
        for name in ("manager", *several):
            for argv in (["node", "ls"], ["service", "ls"]):
                report.sections.append((f"{name}: {' '.join(argv)}", shown("exec", name, "shoal", *argv)))
        report.sections.append(("lab status", shown("status")))
    return report


def shown(*argv: str) -> str:
    """What a command of the lab prints, whatever its fate."""
    try:
        done = subprocess.run([str(LAB), *argv], capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired as exc:
        return f"no answer within {exc.timeout} s"
    return done.stdout + done.stderr
