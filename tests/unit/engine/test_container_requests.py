"""What the body of POST /containers/create becomes, and what is refused."""

from typing import Any

import pytest

from agent.engine.container_requests import Request, request
from agent.engine.http import Fields
from agent.single.record import Leg
from common import errors

ID = "c" * 64


def made(body: dict[str, Any] | None = None, **host: Any) -> Request:
    whole = {"Image": "alpine", **(body or {}), "HostConfig": {"NetworkMode": "default", **host}}
    return request(Fields(whole), "one", ID, "node1")


def test_docker_runs_own_options() -> None:
    found = made(
        {
            "Cmd": ["sh"], "Env": ["A=b"], "WorkingDir": "/tmp", "Hostname": "h", "Tty": True, "OpenStdin": True,
            "StdinOnce": True, "AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "StopTimeout": 3,
        },
        AutoRemove=True, MemorySwappiness=-1, RestartPolicy={"Name": "no"}, Binds=["/srv:/data:ro,z"], PidsLimit=None,
        Tmpfs={"/run": "size=1m"}, Ulimits=[{"Name": "nofile", "Soft": 1, "Hard": 2}], Devices=[],
    )  # fmt: skip
    config, record = found.config, found.record
    assert (config.args, config.env, config.workdir, config.hostname) == (("sh",), ("A=b",), "/tmp", "h")
    assert config.tty and config.open_stdin and config.stop_grace_ns == 3_000_000_000
    assert [(m.type, m.source, m.target, m.read_only) for m in config.mounts] == [
        ("bind", "/srv", "/data", True), ("tmpfs", "", "/run", False),
    ]  # fmt: skip
    assert found.folders == ("/srv",)
    assert (record.network_mode, record.legs, record.auto_remove, record.stdin_once) == (
        "bridge",
        (),
        True,
        True,
    )
    assert record.attach == (True, True, True)
    assert config.dns_nameservers == ("127.0.0.11",) and config.dns_options == ("ndots:0",)


def test_networks() -> None:
    assert made(NetworkMode="host").config.host_network
    assert made(NetworkMode="host").config.hostname == "node1"
    assert made(NetworkMode="none").record.network_mode == "none"
    several = {"NetworkingConfig": {"EndpointsConfig": {"net": {"Aliases": ["al"]}, "other": None}}}
    assert made(several, NetworkMode="net").record.legs == (Leg("net", ("al",)), Leg("other"))
    plain = {"NetworkingConfig": {"EndpointsConfig": {"default": {}}}}
    assert made(plain).record.network_mode == "bridge"
    with pytest.raises(errors.InvalidArgument, match="network-scoped alias is supported only"):
        made({"NetworkingConfig": {"EndpointsConfig": {"default": {"Aliases": ["x"]}}}})


def test_an_empty_entry_point_takes_the_images_away() -> None:
    config = made({"Entrypoint": [""], "Cmd": ["ls", "-l"]}).config
    assert (config.command, config.args) == (("ls", "-l"), ())
    assert made({"Entrypoint": "sh", "Cmd": ["-c"]}).config.command == ("sh",)


@pytest.mark.parametrize(
    "host",
    [
        {"PortBindings": {"80/tcp": [{}]}},
        {"RestartPolicy": {"Name": "always"}},
        {"PidMode": "host"},
        {"Binds": ["data:/data"]},
        {"Mounts": [{"Type": "volume", "Target": "/data"}]},
        {"NetworkMode": "container:x"},
        {"CpuShares": 5},
        {"LogConfig": {"Type": "syslog"}},
        {"Dns": ["192.0.2.1"]},
        {"SecurityOpt": ["seccomp=mine.json"]},
    ],
)
def test_what_is_not_built_is_refused(host: dict[str, Any]) -> None:
    with pytest.raises(errors.Unimplemented, match="not supported yet"):
        made(**host)


def test_what_makes_no_sense() -> None:
    with pytest.raises(errors.InvalidArgument, match="Duplicate mount point: /a"):
        made(Binds=["/x:/a", "/y:/a/"])
    with pytest.raises(errors.InvalidArgument, match="no image specified"):
        request(Fields({}), "one", ID, "node1")
