"""What a link says, and what a container on the default bridge gets of it: as a real daemon gives it."""

from __future__ import annotations

import pytest

from agent.single import links
from agent.single.record import Leg, PortRequest, SingleRecord
from common import errors

OTHER = links.Other("other", "cc", "172.17.0.2")


@pytest.mark.parametrize(
    ("text", "meaning"),
    [("a:b", ("a", "b")), ("a", ("a", "a")), ("/a:/me/b", ("a", "b")), ("/a", ("/a", "/a"))],
)
def test_what_is_said(text: str, meaning: tuple[str, str]) -> None:
    assert links.parse(text) == meaning


@pytest.mark.parametrize(
    ("text", "why"), [("", "empty string specified for links"), ("a:b:c", "bad format for links: a:b:c")]
)
def test_what_says_nothing(text: str, why: str) -> None:
    with pytest.raises(errors.ShoalError, match=f"^{why}$"):
        links.parse(text)


def test_the_line_of_hosts() -> None:
    assert links.hosts_line("db", OTHER) == "172.17.0.2 db cc other"
    assert links.hosts_line("other", OTHER) == "172.17.0.2 other cc"


def test_a_container_without_ports() -> None:
    env = ("FOO=bar", "HOME=/x", "PATH=/y", "bare", "X=a=b")
    told = links.environment("/me/some-db", links.Other("other", "cc", "172.17.0.2", env))
    assert told == ("SOME_DB_NAME=/me/some-db", "SOME_DB_ENV_FOO=bar", "SOME_DB_ENV_X=a=b")


def test_ports_in_a_row_and_others() -> None:
    record = SingleRecord(
        "o", exposed=("5001/tcp", "80/tcp", "5002/tcp", "53/udp", "53/tcp"), ports=(PortRequest("tcp", 5000),)
    )
    ports = links.ports_of(record)
    told = links.environment("/me/db", links.Other("other", "cc", "172.17.0.2", (), ports))
    assert told[:7] == (
        "DB_PORT=tcp://172.17.0.2:53",
        "DB_PORT_5000_TCP_START=tcp://172.17.0.2:5000",
        "DB_PORT_5000_TCP_ADDR=172.17.0.2",
        "DB_PORT_5000_TCP_PROTO=tcp",
        "DB_PORT_5000_TCP_PORT_START=5000",
        "DB_PORT_5000_TCP_END=tcp://172.17.0.2:5002",
        "DB_PORT_5000_TCP_PORT_END=5002",
    )
    assert told[7:11] == (
        "DB_PORT_53_TCP=tcp://172.17.0.2:53", "DB_PORT_53_TCP_ADDR=172.17.0.2", "DB_PORT_53_TCP_PORT=53",
        "DB_PORT_53_TCP_PROTO=tcp",
    )  # fmt: skip
    assert "DB_PORT_53_UDP=udp://172.17.0.2:53" in told
    assert told[-1] == "DB_NAME=/me/db"
    assert len(told) == len(set(told))


def test_two_in_a_row_are_none() -> None:
    told = links.environment("/me/db", links.Other("o", "c", "1.2.3.4", (), ("80/tcp", "81/tcp")))
    assert not any("START" in item for item in told)


def test_records_keep_them() -> None:
    record = SingleRecord("c", legs=(Leg("net", links=("a:b",)),))
    assert SingleRecord.from_bytes(record.to_bytes()) == record
