"""The kinds of values that flags take."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.output.units import duration as duration_text
from cli.values import attachments, basic
from cli.values.mounts import mount
from cli.values.ports import publish


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("5s", 5_000_000_000),
        ("1h30m", 5_400_000_000_000),
        ("1.5s", 1_500_000_000),
        ("300ms", 300_000_000),
        ("2us", 2_000),
        ("0", 0),
        ("-1s", -1_000_000_000),
    ],
)
def test_duration(text: str, nanoseconds: int) -> None:
    assert basic.duration(text) == nanoseconds


@given(st.integers(min_value=-(10**17), max_value=10**17))
def test_durations_are_read_as_they_are_written(nanoseconds: int) -> None:
    assert basic.duration(duration_text(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (basic.duration, "5", 'time: missing unit in duration "5"'),
        (basic.duration, "5parsecs", 'time: unknown unit "parsecs" in duration "5parsecs"'),
        (basic.duration, "", 'time: invalid duration ""'),
        (basic.duration, "s", 'time: invalid duration "s"'),
        (basic.size, "lots", "invalid size: 'lots'"),
        (basic.cpus, "lots", "failed to parse lots as a rational number"),
        (basic.cpus, "0.0000000001", "value is too precise"),
        (basic.filters, "name", "bad format of filter (expected name=value)"),
        (
            basic.preference,
            "pack=node.id",
            "unsupported placement preference pack (only spread is supported)",
        ),
        (basic.ulimit, "nofile", "invalid ulimit argument: nofile"),
        (basic.unsigned, "foo", 'strconv.ParseUint: parsing "foo": invalid syntax'),
        (basic.IP_NETS.parse, "10.0.0.0/8x", "invalid string being converted to CIDR: 10.0.0.0/8x"),
        (mount, "foo", "invalid field 'foo' must be a key=value pair"),
        (mount, "type=bind,source=/a", "target is required"),
        (
            mount,
            "type=bind,target=/a,volume-nocopy",
            "cannot mix 'volume-*' options with mount type 'bind'",
        ),
        (mount, "type=tmpfs,target=/a,colour=red", "unexpected key 'colour' in 'colour=red'"),
        (attachments.network, "alias=a", "network name/id is not specified"),
        (attachments.network, "name=n,driver-opt=a", "invalid key value pair format in driver options"),
        (attachments.SECRETS.parse, "target=x", "source is required"),
        (publish, "80:80:80:80", "invalid IP address: 80:80"),
        (publish, "99999:80", "invalid hostPort: 99999"),
        (publish, "80:x", "invalid containerPort: x"),
        (publish, "80/icmp", "invalid proto: icmp"),
        (
            publish,
            "80-82:80-81",
            "invalid ranges specified for container and host Ports: 80-81 and 80-82",
        ),
        (publish, "published=80", "missing mandatory field 'target'"),
        (
            publish,
            "target=80,mode=magic",
            "invalid publish mode value (magic): must be either 'ingress' or 'host'",
        ),
    ],
)
def test_bad_values(parse: Callable[[str], Any], text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "count"), [("64m", 64 << 20), ("1.5GiB", 3 << 29), ("512", 512), ("1k", 1024), ("2TB", 2 << 40)]
)
def test_size(text: str, count: int) -> None:
    assert basic.size(text) == count


def test_ports_short_and_long() -> None:
    assert publish("8080:80") == [
        {"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress"}
    ]
    assert publish("80") == [{"Protocol": "tcp", "TargetPort": 80, "PublishMode": "ingress"}]
    assert publish("target=53,published=5353,protocol=udp,mode=host") == [
        {"Protocol": "udp", "TargetPort": 53, "PublishedPort": 5353, "PublishMode": "host"}
    ]
    assert [(port["PublishedPort"], port["TargetPort"]) for port in publish("9000-9001:90-91")] == [
        (9000, 90),
        (9001, 91),
    ]
    assert [(port["PublishedPort"], port["TargetPort"]) for port in publish("9000-9001:90/udp")] == [
        (9000, 90),
        (9001, 90),
    ]
    with pytest.raises(ValueError, match=r"^hostip is not supported$"):
        publish("127.0.0.1:9000:90")


def test_mounts() -> None:
    assert mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770") == [
        {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1770}}
    ]
    assert mount('source=v,dst=/v,volume-opt=o=bind,"volume-opt=device=a,b",readonly') == [
        {
            "Type": "volume",
            "Source": "v",
            "Target": "/v",
            "ReadOnly": True,
            "VolumeOptions": {"DriverConfig": {"Options": {"o": "bind", "device": "a,b"}}},
        }
    ]


def test_secret_with_everything() -> None:
    (request,) = attachments.SECRETS.parse("source=pw,target=password,uid=1,gid=2,mode=0400")
    assert request.source == "pw"
    assert request.file == {"Name": "password", "UID": "1", "GID": "2", "Mode": 0o400}


@pytest.mark.parametrize(
    ("text", "mode"), [("0440", 0o440), ("440", 440), ("0o17", 0o17), ("0x1ff", 0x1FF), ("0", 0), ("0b1", 1)]
)
def test_modes_are_numbers_of_go(text: str, mode: int) -> None:
    (request,) = attachments.CONFIGS.parse(f"source=conf,target=,mode={text}")
    assert request.file == {"Name": "conf", "UID": "0", "GID": "0", "Mode": mode}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "EOF"),
        *(
            (f"source=a,mode={mode}", f'invalid mode specified: strconv.ParseUint: parsing "{mode}": {why}')
            for mode, why in (
                ("rwx", "invalid syntax"),
                ("-1", "invalid syntax"),
                ("089", "invalid syntax"),
                ("4294967296", "value out of range"),
            )
        ),
        ("target=/x", "source is required"),
    ],
)
def test_configs_that_are_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}$"):
        attachments.CONFIGS.parse(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1", "10.0.0.1:2377"),
        ("10.0.0.1:99", "10.0.0.1:99"),
        ("eth0", "eth0:2377"),
        (":99", "0.0.0.0:99"),
        ("[fd00::1]:99", "[fd00::1]:99"),
        ("fd00::1", "fd00::1:2377"),
    ],
)
def test_node_address(text: str, address: str) -> None:
    assert basic.node_address(text) == address
