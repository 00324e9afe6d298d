"""A swarm comes back from its backup: the manager loses everything, the workers and what they run notice nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.support import LOAD, Lab, until

pytestmark = pytest.mark.lab

FILE = "/root/swarm.backup"
RATE = "100"


def on_workers(lab: Lab, tasks: list[dict[str, Any]]) -> dict[str, tuple[str, int]]:
    """Containers and processes of the tasks that run on workers."""
    return {
        t["ID"]: (t["Status"]["ContainerStatus"]["ContainerID"], t["Status"]["ContainerStatus"]["PID"])
        for t in tasks
        if lab.node_of(t).name != "manager"
    }


def ids(lab: Lab, path: str) -> set[str]:
    return {thing.get("ID") or thing["Id"] for thing in lab.manager.api(path) or []}


def all_ready(lab: Lab) -> None:
    for name in lab.machines:
        lab.wait_node(name, "ready", 60)


@pytest.fixture(scope="module", autouse=True)
def no_traces(swarm: Lab) -> Iterator[None]:
    """The service goes afterwards: tests that follow get one without a past."""
    yield
    swarm.manager.docker("service", "rm", "my-nginx", check=False)
    swarm.wait_gone("my-nginx")


@pytest.fixture
def backup(served: Lab) -> Lab:
    """The web service, with a backup on the manager."""
    web = served
    web.manager.run("rm", "-f", FILE)
    done = web.manager.shoal("swarm", "backup", FILE)
    assert done.stdout.startswith("Swarm ")
    assert "not sealed" in done.stderr
    assert web.manager.sh(f"stat -c %a {FILE}").strip() == "600"
    return web


def test_a_manager_that_lost_everything(backup: Lab) -> None:
    lab, manager = backup, backup.manager
    workers = on_workers(lab, lab.wait_running("my-nginx", 5))
    nodes, services = ids(lab, "/nodes"), ids(lab, "/services")
    token = manager.shoal("swarm", "join-token", "-q", "worker").stdout
    targets = [f"{m.addr}:80" for name, m in lab.machines.items() if name != "manager"]
    manager.shoal("swarm", "leave", "--force")
    # A task on the manager is gone with it, and nobody is there to say so: only then the others are counted.
    with lab.load(["python3", str(LOAD), "http", RATE, *targets]):
        refused = manager.shoal("swarm", "backup", "/root/none", check=False)
        assert "This node is not a swarm manager" in refused.stderr
        done = manager.shoal("swarm", "restore", "--advertise-addr", manager.addr, FILE)
        assert "is now a manager." in done.stdout
        assert "Other nodes come back by themselves" in done.stdout
        all_ready(lab)
        tasks = lab.wait_running("my-nginx", 5)
    assert (ids(lab, "/nodes"), ids(lab, "/services")) == (nodes, services)
    assert workers.items() <= on_workers(lab, tasks).items()
    assert manager.shoal("swarm", "join-token", "-q", "worker").stdout == token
    # It goes on: what is asked for from now on is done, everywhere.
    manager.docker("service", "scale", "-d", "my-nginx=7")
    lab.wait_running("my-nginx", 7)
    manager.docker("service", "scale", "-d", "my-nginx=5")
    lab.wait_running("my-nginx", 5)
    until(lambda: not refusals(lab), 30, "no agent refuses what the manager says")


def refusals(lab: Lab) -> str:
    """What agents have refused within the last seconds."""
    command = "journalctl -u shoal-agent --since '-5s' --no-pager -q | grep refused || true"
    return "".join(m.sh(command) for m in lab.machines.values())


def test_a_restore_over_a_running_manager_disturbs_nobody(backup: Lab) -> None:
    """The same machine is the same node: all its tasks go on as well, and what was made since is gone."""
    lab, manager = backup, backup.manager
    before = {t["ID"]: t["Status"]["ContainerStatus"] for t in lab.wait_running("my-nginx", 5)}
    manager.docker("network", "create", "-d", "overlay", "made-later")
    refused = manager.shoal("swarm", "restore", FILE, check=False)
    assert "already part of a swarm" in refused.stderr
    targets = [f"{m.addr}:80" for m in lab.machines.values()]
    with lab.load(["python3", str(LOAD), "http", RATE, *targets]) as outside:
        manager.shoal("swarm", "restore", "--force", "--advertise-addr", manager.addr, FILE)
        all_ready(lab)
        after = {t["ID"]: t["Status"]["ContainerStatus"] for t in lab.wait_running("my-nginx", 5)}
        assert after == before
        manager.docker("service", "update", "-d", "--label-add", "restored=yes", "my-nginx")
    account = outside.account
    assert not account["failed"], (account["failed"], account["first"])
    assert "made-later" not in manager.docker("network", "ls").stdout


def test_a_sealed_backup(web: Lab) -> None:
    manager = web.manager
    manager.sh("umask 077; echo 'a passphrase' > /root/phrase; echo other > /root/other; rm -f /root/sealed")
    done = manager.shoal("swarm", "backup", "--passphrase-file", "/root/phrase", "/root/sealed")
    assert done.stderr == ""
    wrong = manager.shoal(
        "swarm", "restore", "--force", "--advertise-addr", manager.addr, "--passphrase-file", "/root/other",
        "/root/sealed", check=False,
    )  # fmt: skip
    assert "that is not the passphrase of the backup" in wrong.stderr
    manager.sh("printf x | dd of=/root/sealed bs=1 seek=2000 conv=notrunc status=none")
    damaged = manager.shoal(
        "swarm", "restore", "--force", "--advertise-addr", manager.addr, "--passphrase-file", "/root/phrase",
        "/root/sealed", check=False,
    )  # fmt: skip
    assert "the backup is damaged" in damaged.stderr
    web.wait_running("my-nginx", 5)
