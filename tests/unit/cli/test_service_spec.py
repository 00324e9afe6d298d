"""From flags to a service spec, where recorded conversations don't reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli.errors import CliError
from cli.flags import parse
from cli.service.edit import edit_spec
from cli.service.flags import CREATE_FLAGS, UPDATE_FLAGS
from cli.service.spec import service_spec


def created(*words: str, environment: dict[str, str] | None = None) -> dict[str, Any]:
    values, arguments = parse(CREATE_FLAGS, [*words, "nginx"], interspersed=False)
    return service_spec(values, arguments[0], arguments[1:], environment or {})


def updated(spec: dict[str, Any], *words: str) -> dict[str, Any]:
    values, _ = parse(UPDATE_FLAGS, list(words))
    edit_spec(spec, values)
    return spec


def container(spec: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = spec["TaskTemplate"]["ContainerSpec"]
    return found


def test_environment_from_files_the_shell_and_the_flag(tmp_path: Path) -> None:
    path = tmp_path / "vars"
    path.write_text("# no\n\nA=1\nHOME\nGONE\nB=2\n")
    spec = created(
        "--env-file", str(path), "-e", "B=3", "-e", "HOME", "-e", "BARE", environment={"HOME": "/root"}
    )
    assert container(spec)["Env"] == ["A=1", "B=3", "HOME=/root", "BARE"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--mode", "global", "--replicas", "2"],
            "replicas can only be used with replicated or replicated-job mode",
        ),
        (["--max-concurrent", "2"], "max-concurrent can only be used with replicated-job mode"),
        (["--mode", "foo"], "Unknown mode: foo, only replicated and global supported"),
        (["--no-healthcheck", "--health-cmd", "x"], "--no-healthcheck conflicts with --health-* options"),
        (["--generic-resource", "gpu"], "invalid generic-resource gpu: expected <kind>=<amount or name>"),
    ],
)
def test_contradictions(words: list[str], message: str) -> None:
    with pytest.raises(CliError) as caught:
        created(*words)
    assert caught.value.message == message


def test_a_fresh_service_leaves_defaults_to_the_daemon() -> None:
    assert created() == {
        "Labels": {},
        "TaskTemplate": {
            "ContainerSpec": {"Image": "nginx", "Init": False, "DNSConfig": {}},
            "Resources": {"Limits": {}, "Reservations": {}},
            "Placement": {},
            "ForceUpdate": 0,
        },
        "Mode": {"Replicated": {}},
        "EndpointSpec": {"Mode": "vip"},
    }


def test_generic_resources_and_capabilities() -> None:
    spec = created(
        "--generic-resource",
        "gpu=2",
        "--generic-resource",
        "ssd=a",
        "--cap-add",
        "net_raw",
        "--cap-drop",
        "ALL",
    )
    assert spec["TaskTemplate"]["Resources"]["Reservations"]["GenericResources"] == [
        {"DiscreteResourceSpec": {"Kind": "gpu", "Value": 2}},
        {"NamedResourceSpec": {"Kind": "ssd", "Value": "a"}},
    ]
    assert container(spec)["CapabilityAdd"] == ["CAP_NET_RAW"]
    assert container(spec)["CapabilityDrop"] == ["ALL"]


def test_update_replaces_namesakes_and_drops_what_gets_empty() -> None:
    spec = created("-e", "A=1", "-e", "B=2", "--mount", "target=/a,source=one", "--sysctl", "x=1")
    updated(
        spec, "--env-add", "A=9", "--env-rm", "B", "--mount-add", "target=/a,source=two", "--sysctl-rm", "x"
    )
    assert container(spec)["Env"] == ["A=9"]
    assert container(spec)["Mounts"] == [{"Type": "volume", "Source": "two", "Target": "/a"}]
    assert "Sysctls" not in container(spec)


def test_update_leaves_alone_what_it_does_not_know() -> None:
    spec = created()
    spec["Future"] = {"a": 1}
    container(spec)["Novelty"] = True
    before = {**spec}
    updated(spec)
    assert spec == before


def test_hosts_are_removed_by_name_or_name_and_address() -> None:
    spec = created("--host", "a:1.2.3.4", "--host", "b:1.2.3.4", "--host", "a:5.6.7.8")
    updated(spec, "--host-rm", "a:5.6.7.8", "--host-rm", "b:1.2.3.4")
    assert container(spec)["Hosts"] == ["1.2.3.4 a"]


def test_ports_are_removed_by_their_target() -> None:
    spec = created("-p", "8080:80", "-p", "5353:53/udp")
    updated(spec, "--publish-rm", "80", "--publish-add", "9090:90")
    assert [port["PublishedPort"] for port in spec["EndpointSpec"]["Ports"]] == [5353, 9090]


def test_capabilities_change_sides() -> None:
    spec = created("--cap-add", "NET_ADMIN", "--cap-drop", "MKNOD")
    updated(spec, "--cap-add", "MKNOD", "--cap-drop", "NET_ADMIN")
    assert "CapabilityAdd" not in container(spec)
    assert "CapabilityDrop" not in container(spec)


def test_replicas_of_a_global_service() -> None:
    with pytest.raises(CliError, match="replicas can only be used"):
        updated(created("--mode", "global"), "--replicas", "2")


def test_log_driver_is_taken_back_by_an_empty_name() -> None:
    spec = created("--log-driver", "local", "--log-opt", "a=b")
    updated(spec, "--log-driver", "")
    assert "LogDriver" not in spec["TaskTemplate"]
