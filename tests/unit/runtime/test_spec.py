"""Settings into the OCI runtime's specification."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.runtime import defaults, spec
from agent.runtime.api import ContainerConfig, ExecConfig, Mount, Ulimit
from agent.runtime.image import ImageConfig
from agent.runtime.users import User
from common.errors import FailedPrecondition, InvalidArgument

CONFIG = ContainerConfig(id="ab" * 32, name="web.1.x", image="nginx")
IMAGE = ImageConfig(
    entrypoint=("/entry",), cmd=("serve",), env=("PATH=/p", "A=1", "B=2"), workdir="/srv", user="web"
)
FILES = spec.Files("/f/hosts", "/f/hostname", "/f/resolv.conf")
HOST = spec.HostFacts()


def built(config: ContainerConfig = CONFIG, image: ImageConfig = IMAGE, **more: Any) -> dict[str, Any]:
    return spec.build(config, image, more.pop("user", User()), FILES, more.pop("host", HOST), **more)


@pytest.mark.parametrize(
    ("command", "args", "line"),
    [
        ((), (), ("/entry", "serve")),
        ((), ("x",), ("/entry", "x")),
        (("c",), (), ("c",)),
        (("c",), ("x",), ("c", "x")),
    ],
)
def test_command_line(command: tuple[str, ...], args: tuple[str, ...], line: tuple[str, ...]) -> None:
    assert spec.command_line(replace(CONFIG, command=command, args=args), IMAGE) == line


def test_no_command() -> None:
    with pytest.raises(InvalidArgument, match=r"^no command specified$"):
        built(image=ImageConfig())


def test_environment() -> None:
    config = replace(CONFIG, env=("A=9", "C=3", "B"), hostname="fish", tty=True)
    wanted = ("PATH=/p", "HOSTNAME=fish", "TERM=xterm", "A=9", "C=3")
    assert spec.environment(config, IMAGE) == wanted
    assert spec.environment(CONFIG, ImageConfig()) == (f"PATH={defaults.PATH}", f"HOSTNAME={'ab' * 6}")


def test_defaults_are_dockers() -> None:
    made = built()
    process, linux = made["process"], made["linux"]
    assert process["cwd"] == "/srv"
    assert made["hostname"] == "ab" * 6
    assert process["capabilities"]["effective"] == list(defaults.CAPABILITIES)
    assert linux["cgroupsPath"] == f"/shoal/{CONFIG.id}"
    assert linux["sysctl"]["net.ipv4.ip_unprivileged_port_start"] == "0"
    assert linux["maskedPaths"] == list(defaults.MASKED_PATHS)
    assert linux["resources"].keys() == {"devices"}
    assert linux["resources"]["devices"][0] == {"allow": False, "access": "rwm"}
    assert {"type": "network"} in linux["namespaces"]
    targets = [mount["destination"] for mount in made["mounts"]]
    assert targets[:7] == ["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"]
    assert targets[7:] == ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"]


def test_capabilities() -> None:
    known = defaults.ALL_CAPABILITIES
    assert spec.capabilities(["NET_ADMIN"], ["CAP_CHOWN"], known)[-1] == "CAP_NET_ADMIN"
    assert "CAP_CHOWN" not in spec.capabilities([], ["chown"], known)
    assert spec.capabilities(["NET_ADMIN"], ["ALL"], known) == ["CAP_NET_ADMIN"]
    assert spec.capabilities(["all"], ["SYS_ADMIN"], known) == [n for n in known if n != "CAP_SYS_ADMIN"]
    with pytest.raises(InvalidArgument, match='invalid CapAdd: unknown capability: "CAP_FLY"'):
        spec.capabilities(["FLY"], [], known)
    with pytest.raises(InvalidArgument, match="not supported by your kernel"):
        spec.capabilities(["BPF"], [], known[:10])


def test_a_user_that_is_not_root_has_no_capabilities_at_once() -> None:
    process = built(user=User(101, 102, (103,)))["process"]
    assert process["user"] == {"uid": 101, "gid": 102, "additionalGids": [102, 103]}
    assert process["capabilities"] == {"bounding": list(defaults.CAPABILITIES)}


def test_resources() -> None:
    config = replace(CONFIG, memory_bytes=64 << 20, nano_cpus=1_500_000_000, pids_limit=9)
    resources = built(config)["linux"]["resources"]
    assert resources["memory"] == {"limit": 64 << 20, "swap": 64 << 20}
    assert resources["cpu"] == {"quota": 150_000, "period": 100_000}
    assert resources["pids"] == {"limit": 9}
    plain = spec.HostFacts(cgroup_version=1, swap_accounting=False)
    config = replace(config, memory_swappiness=10)
    assert built(config, host=plain)["linux"]["resources"]["memory"] == {"limit": 64 << 20, "swappiness": 10}
    limits = built(replace(CONFIG, ulimits=(Ulimit("nofile", 1, -1),)))["process"]["rlimits"]
    assert limits == [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2**64 - 1}]


def test_resources_by_share_and_set() -> None:
    config = replace(
        CONFIG, cpu_shares=512, cpu_period=100_000, cpu_quota=50_000, cpuset_cpus="0-1", cpuset_mems="0",
        memory_reservation_bytes=1 << 24,
    )  # fmt: skip
    resources = built(config)["linux"]["resources"]
    assert resources["cpu"] == {
        "shares": 512, "period": 100_000, "quota": 50_000, "cpus": "0-1", "mems": "0",
    }  # fmt: skip
    assert resources["memory"] == {"reservation": 1 << 24}


def test_the_machines_own_processes_names_and_ipc() -> None:
    made = built(replace(CONFIG, host_pid=True, host_ipc=True, host_uts=True))
    kinds = {namespace["type"] for namespace in made["linux"]["namespaces"]}
    assert not kinds & {"pid", "ipc", "uts"}
    assert "hostname" not in made
    shared = {mount["destination"]: mount["type"] for mount in made["mounts"]}
    assert (shared["/dev/shm"], shared["/dev/mqueue"], shared["/dev"]) == ("bind", "bind", "tmpfs")


def test_mounts() -> None:
    config = replace(
        CONFIG,
        mounts=(
            Mount("bind", "/h/a", "/a/b/c", read_only=True),
            Mount("volume", "/v", "/a"),
            Mount("tmpfs", "", "/dev/shm", options=("size=1m",)),
            Mount("bind", "/h/hosts", "/etc/hosts", options=("rshared",)),
        ),
    )
    made = built(config)
    mounts = {mount["destination"]: mount for mount in made["mounts"]}
    order = list(mounts)
    assert order.index("/a") < order.index("/a/b/c")
    assert mounts["/a/b/c"]["options"] == ["rbind", "rprivate", "ro"]
    assert mounts["/dev/shm"]["options"] == ["noexec", "nosuid", "nodev", "rprivate", "size=1m"]
    assert mounts["/etc/hosts"]["options"] == ["rbind", "rshared", "rw"]
    assert len(order) == len(made["mounts"])
    assert made["linux"]["rootfsPropagation"] == "shared"
    with pytest.raises(InvalidArgument, match="mount path must be absolute"):
        built(replace(CONFIG, mounts=(Mount("bind", "/x", "relative"),)))


def test_network_namespaces() -> None:
    own = built(replace(CONFIG, network_namespace="/run/ns/x"))["linux"]
    assert {"type": "network", "path": "/run/ns/x"} in own["namespaces"]
    host = built(replace(CONFIG, host_network=True, sysctls={"kernel.msgmax": "1"}))["linux"]
    assert all(ns["type"] != "network" for ns in host["namespaces"])
    assert host["sysctl"] == {"kernel.msgmax": "1"}


def test_init() -> None:
    with pytest.raises(FailedPrecondition, match="docker-init"):
        built(replace(CONFIG, init=True))
    made = built(replace(CONFIG, init=True), host=spec.HostFacts(init_path="/usr/bin/tini"))
    assert made["process"]["args"] == ["/sbin/docker-init", "--", "/entry", "serve"]
    assert any(mount["source"] == "/usr/bin/tini" for mount in made["mounts"])


def test_privileged() -> None:
    linux = built(replace(CONFIG, privileged=True))["linux"]
    assert linux["maskedPaths"] == []
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]


def test_exec_is_like_its_container() -> None:
    container = built(replace(CONFIG, env=("X=1",)))
    process = spec.exec_process(ExecConfig(("ls",), env=("X=2",), tty=True), container, User())
    assert process["cwd"] == "/srv"
    assert "X=2" in process["env"]
    assert "TERM=xterm" in process["env"]
    assert process["capabilities"]["effective"] == list(defaults.CAPABILITIES)
    other = spec.exec_process(ExecConfig(("ls",), workdir="/w"), container, User(5, 5))
    assert (other["cwd"], other["capabilities"].keys()) == ("/w", {"bounding"})


def test_variables_of_links_come_and_go() -> None:
    plain = built(replace(CONFIG, env=("DB_NAME=own",)))
    before = plain["process"]["env"]
    once = spec.linked(plain, ("DB_PORT=tcp://172.17.0.2:80", "DB_NAME=/me/db", "DB_ENV_A=1"))
    assert once["process"]["env"] == [*before[:2], "DB_PORT=tcp://172.17.0.2:80", "DB_ENV_A=1", *before[2:]]
    assert plain["process"]["env"] == before
    again = spec.linked(once, ("DB_PORT=tcp://172.17.0.9:80",))
    assert again["process"]["env"] == [*before[:2], "DB_PORT=tcp://172.17.0.9:80", *before[2:]]
    assert spec.linked(again, ()) == plain
