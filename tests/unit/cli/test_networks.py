"""`shoal network …`, and what `service` says of networks and ports, as `docker` has it."""

from __future__ import annotations

import json

import pytest
from fake_daemon import Daemon, Shoal

from cli.errors import CliError
from cli.flags import parse
from cli.network import CREATE, ipam_config
from cli.service.listing import ports
from cli.values import attachments

NETWORKS = [
    {"Id": "b" * 64, "Name": "web", "Driver": "overlay", "Scope": "swarm", "Labels": {"com.x.my-zone": "a"}},
    {"Id": "c" * 64, "Name": "db", "Driver": "overlay", "Scope": "swarm", "Labels": None},
]


def test_labels_one_by_one(daemon: Daemon, shoal: Shoal) -> None:
    daemon.says("GET", "/networks", NETWORKS)
    listed = shoal("network", "ls", "--format", '{{.Name}} {{.Label "com.x.my-zone"}}')
    assert listed.out == "db \nweb a\n"
    listed = shoal("network", "ls", "--format", 'table {{.Name}}\t{{.Label "com.x.my-zone"}}')
    assert listed.out == "NAME      my zone\ndb        \nweb       a\n"
    assert list(json.loads(shoal("network", "ls", "--format", "json").out.splitlines()[0])) == [
        "CreatedAt", "Driver", "ID", "IPv4", "IPv6", "Internal", "Labels", "Name", "Scope",
    ]  # fmt: skip
    assert "wrong arguments for Label" in shoal("network", "ls", "--format", "{{.Label 1}}").err
    assert shoal("network", "ls", "--format", "{{.Nope}}").code == 1


def test_a_no_is_no_failure(daemon: Daemon, shoal: Shoal) -> None:
    result = shoal("network", "prune", stdin="n\n")
    assert (result.code, result.err, daemon.asked) == (0, "", [])
    assert result.out.endswith("[y/N] ")


def test_inspected_as_json_it_is_a_list(daemon: Daemon, shoal: Shoal) -> None:
    daemon.says("GET", "/networks/web", {"Name": "web"})
    assert shoal("network", "inspect", "-f", "json", "web", "web").out == '[{"Name":"web"},{"Name":"web"}]\n'


def test_the_size_of_a_network(daemon: Daemon, shoal: Shoal) -> None:
    daemon.says("GET", "/networks/web", {"Name": "web"})
    result = shoal("inspect", "--type", "network", "-s", "-f", "{{.Name}}", "web")
    assert (result.out, result.err) == ("web\n", "WARNING: --size ignored for network\n")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--subnet", "10.1.0.0/24", "--ip-range", "foo"), "invalid CIDR address: foo"),
        (("--subnet", "10.1.0.0/24", "--ip-range", "10.1.0.0"), "invalid CIDR address: 10.1.0.0"),
        (("--subnet", "10.1.0.0/24", "--ip-range", "10.2.0.0/25"), "no matching subnet for range 10.2.0.0/25"),
    ],
)  # fmt: skip
def test_ranges_that_are_none(words: tuple[str, ...], text: str) -> None:
    values, _ = parse(CREATE.flags, [*words, "net"])
    with pytest.raises(CliError) as caught:
        ipam_config(values)
    assert caught.value.message == text


def test_a_network_without_a_name(shoal: Shoal) -> None:
    result = shoal("service", "create", "-d", "--no-resolve-image", "--network", "", "nginx")
    assert (result.code, result.err) == (1, "invalid network name or ID: value is empty\n")


def test_what_has_the_long_form() -> None:
    assert [request.name for request in attachments.network("name=")] == ["name="]
    assert [request.name for request in attachments.network("name=web,alias=a")] == ["web"]


def test_a_network_that_the_service_has(daemon: Daemon, shoal: Shoal) -> None:
    """Added twice, or while it is there, it is refused; removed and added in one command it is made anew."""
    spec = {"Name": "s", "TaskTemplate": {"ContainerSpec": {"Image": "i"}, "Networks": [{"Target": "n1"}]}}
    service = {"ID": "s1", "Version": {"Index": 7}, "Spec": spec}
    daemon.says("GET", "/services/s", service, insertDefaults="false")
    for name, id in (("web", "n1"), ("db", "n2")):
        daemon.says("GET", f"/networks/{name}", {"Id": id}, scope="swarm")
    daemon.says("POST", "/services/s1/update", {}, registryAuthFrom="spec", version="7")
    update = ("service", "update", "-d")
    for words in (("--network-add", "web"), ("--network-add", "db", "--network-add", "db")):
        result = shoal(*update, *words, "s")
        assert (result.code, result.err) == (1, f"service is already attached to network {words[-1]}\n")
    assert shoal(*update, "--network-rm", "web", "--network-add", "name=web,alias=a", "s").code == 0
    assert daemon.sent()[-1]["TaskTemplate"]["Networks"] == [{"Target": "n1", "Aliases": ["a"]}]
    assert shoal(*update, "--network-rm", "web", "s").code == 0
    assert "Networks" not in daemon.sent()[-1]["TaskTemplate"]


@pytest.mark.parametrize(
    ("pairs", "shown"),
    [
        ([(9000, 80), (9001, 81), (9002, 82)], "*:9000-9002->80-82/tcp"),
        ([(9000, 80), (9001, 80), (9002, 80)], "*:9000-9002->80/tcp"),
        ([(9000, 80), (9001, 81), (9002, 81)], "*:9000-9001->80-81/tcp, *:9002->81/tcp"),
        ([(9000, 81), (9001, 80)], "*:9000->81/tcp, *:9001->80/tcp"),
        ([(9000, 80), (9002, 81)], "*:9000->80/tcp, *:9002->81/tcp"),
    ],
)
def test_ports_that_follow_each_other(pairs: list[tuple[int, int]], shown: str) -> None:
    given = [{"PublishMode": "ingress", "PublishedPort": p, "TargetPort": t} for p, t in pairs]
    assert ports(given) == shown
