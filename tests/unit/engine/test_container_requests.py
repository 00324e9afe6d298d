"""What the body of POST /containers/create becomes, and what is refused."""

from typing import Any

import pytest

from agent.engine.container_requests import Request, request
from agent.engine.http import Fields
from agent.single.record import Leg, PortRequest
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
        (Leg("bridge"),),
        True,
        True,
    )
    assert record.attach == (True, True, True)
    assert config.dns_nameservers == ("127.0.0.11",) and config.dns_options == ()


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
    mixed = {"NetworkingConfig": {"EndpointsConfig": {"net": {"IPAMConfig": {"IPv4Address": "10.9.0.9"}}}}}
    assert made(mixed).record.legs == (Leg("bridge"), Leg("net", (), "10.9.0.9"))
    with pytest.raises(errors.InvalidArgument, match="cannot attach both user-defined and non-user-defined"):
        made(mixed, NetworkMode="host")
    default = {
        "NetworkingConfig": {"EndpointsConfig": {"default": {"IPAMConfig": {"IPv4Address": "1.2.3.4"}}}}
    }
    with pytest.raises(errors.InvalidArgument, match="supported on user defined networks only"):
        made(default)


@pytest.mark.parametrize(
    ("body", "host", "text"),
    [
        ({"Cmd": {}}, {}, "json: cannot unmarshal object into Go"),
        ({"NetworkingConfig": {"EndpointsConfig": []}}, {}, "of type map\\[string\\]network.EndpointSettings"),
        ({"NetworkingConfig": {"EndpointsConfig": {"net": 1}}}, {}, "of type network.EndpointSettings"),
        ({"Volumes": []}, {}, "of type map"), ({}, {"Mounts": 1}, "of type \\[\\]mount.Mount"),
        ({}, {"Devices": 1}, "DeviceMapping"), ({}, {"Ulimits": [1]}, "Ulimit"), ({}, {"PortBindings": {"80/tcp": 1}}, "PortBinding"),
        ({}, {"Mounts": [{}]}, 'invalid mount config for type "": field Target must not be empty'),
        ({}, {"Mounts": [{"Type": "x", "Target": "/a"}]}, 'invalid mount config for type "x": mount type unknown'),
        ({}, {"Mounts": [{"Type": "bind", "Target": "a"}]}, "invalid mount path: 'a' mount path must be absolute"),
        ({}, {"PortBindings": {"x/tcp": [{}]}}, 'invalid port specification: "x"'),
    ],
)  # fmt: skip
def test_values_of_the_wrong_type_are_refused(body: dict[str, Any], host: dict[str, Any], text: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=text):
        made(body, **host)


def test_the_network_of_another_container() -> None:
    record = made(NetworkMode="container:x").record
    assert (record.network_mode, record.legs) == ("container:x", ())
    with pytest.raises(errors.InvalidArgument, match="hostname and the network mode"):
        made({"Hostname": "h"}, NetworkMode="container:x")
    with pytest.raises(errors.InvalidArgument, match="port publishing and the container type network mode"):
        made(NetworkMode="container:x", PortBindings={"80/tcp": [{}]})


def test_name_servers() -> None:
    """On the default bridge they stand in resolv.conf; elsewhere our resolver asks them."""
    default, own = made(Dns=["192.0.2.1"]), made(NetworkMode="net", Dns=["192.0.2.1"])
    assert (default.config.dns_nameservers, default.record.dns) == (("192.0.2.1",), ("192.0.2.1",))
    assert (own.config.dns_nameservers, own.record.dns) == (("127.0.0.11",), ("192.0.2.1",))


def test_ports() -> None:
    asked = {
        "80/tcp": [{"HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "9000-9010"}],
        "53/udp": [{"HostIp": "0.0.0.0", "HostPort": ""}],
    }
    record = made({"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "7/tcp": {}}}, PortBindings=asked).record
    assert record.ports == (
        PortRequest("udp", 53, "0.0.0.0"), PortRequest("tcp", 80, "", 8080, 8080), PortRequest("tcp", 80, "127.0.0.1", 9000, 9010),
    )  # fmt: skip
    assert record.exposed == ("53/udp", "7/tcp", "80/tcp")
    assert made(NetworkMode="host", PortBindings=asked, PublishAllPorts=True).record.ports == ()
    for wrong, text in (
        ({"80/xyz": [{}]}, "invalid proto: xyz"), ({"0/tcp": [{}]}, "invalid port specification"),
        ({"80/tcp": [{"HostPort": "x"}]}, "invalid port specification"),
        ({"80/tcp": [{"HostIp": "nowhere"}]}, "invalid IP address: nowhere"), ([], "cannot unmarshal array into Go struct field HostConfig.HostConfig.PortBindings"),
        ({"80/tcp": [{"HostIp": "fe80::1%eth0"}]}, "invalid IP address: fe80::1%eth0"),
    ):  # fmt: skip
        with pytest.raises(errors.InvalidArgument, match=text):
            made(PortBindings=wrong if wrong else ["x"])


def test_an_empty_entry_point_takes_the_images_away() -> None:
    config = made({"Entrypoint": [""], "Cmd": ["ls", "-l"]}).config
    assert (config.command, config.args) == (("ls", "-l"), ())
    assert made({"Entrypoint": "sh", "Cmd": ["-c"]}).config.command == ("sh",)


@pytest.mark.parametrize(
    "host",
    [
        {"PidMode": "container:x"},
        {"Binds": ["data:/data"]},
        {"Mounts": [{"Type": "volume", "Target": "/data"}]},
        {"BlkioWeight": 5},
        {"LogConfig": {"Type": "syslog"}},
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


def test_restart_policies() -> None:
    record = made(RestartPolicy={"Name": "on-failure", "MaximumRetryCount": 3}).record
    assert (record.restart, record.most_restarts) == ("on-failure", 3)
    for host, text in (
        ({"RestartPolicy": {"Name": "often"}}, "invalid restart policy 'often'"),
        (
            {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 1}},
            "cannot be used with restart policy 'always'",
        ),
        ({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -1}}, "cannot be negative"),
        ({"RestartPolicy": {"Name": "always"}, "AutoRemove": True}, "can't create 'AutoRemove' container"),
    ):
        with pytest.raises(errors.InvalidArgument, match=text):
            made(**host)


@pytest.mark.parametrize(
    ("body", "host", "text"),
    [
        ({"Hostname": "x"}, {}, "hostname and the network mode"),
        ({"ExposedPorts": {"80/tcp": {}}}, {}, "port exposing and the container type network mode"),
        ({}, {"PublishAllPorts": True}, "port publishing and the container type network mode"),
        ({}, {"Dns": ["192.0.2.1"]}, "dns and the network mode"),
        ({}, {"ExtraHosts": ["a:192.0.2.1"]}, "custom host-to-IP mapping and the network mode"),
        ({}, {"NetworkMode": "container:"}, "invalid container format container:<name|id>"),
    ],
)
def test_what_another_containers_network_rules_out(
    body: dict[str, Any], host: dict[str, Any], text: str
) -> None:
    with pytest.raises(errors.InvalidArgument, match=text.replace("|", "[|]")):
        made(body, **{"NetworkMode": "container:web", **host})


@pytest.mark.parametrize(
    ("bind", "text"),
    [
        ("/srv:data", "invalid mount path: 'data' mount path must be absolute"),
        ("/srv:/", "destination can't be '/'"),
        ("/srv:/data:foo", "invalid mode: foo"),
        ("/srv", "invalid volume specification: '/srv'"),
    ],
)
def test_binds_that_make_no_sense(bind: str, text: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        made(Binds=[bind])
    assert text in caught.value.message


def test_logging() -> None:
    asked = {"Type": "", "Config": {"max-size": "1m", "labels": "a"}}
    assert made(LogConfig=asked).record.host_config["LogConfig"] == {**asked, "Type": "json-file"}
    for config, text in (
        ({"Type": "json-file", "Config": {"x": "1"}}, "unknown log opt 'x' for json-file log driver"),
        ({"Type": "mine"}, 'plugin "mine" not found'),
    ):
        with pytest.raises(errors.InvalidArgument, match=text):
            made(LogConfig=config)


def test_the_machines_own_names() -> None:
    found = made(UTSMode="host", PidMode="host", IpcMode="host").config
    assert found.host_uts and found.host_pid and found.host_ipc and found.hostname == "node1"
    with pytest.raises(errors.InvalidArgument, match="hostname and the UTS mode"):
        made({"Hostname": "x"}, UTSMode="host")


def test_patience_without_end_and_no_domain_to_search() -> None:
    found = made({"StopTimeout": -1}, DnsSearch=["."])
    assert found.config.stop_grace_ns > 30 * 365 * 24 * 3600 * 10**9
    assert (found.record.stop_timeout, found.config.dns_search) == (-1, ())


@pytest.mark.parametrize("body", [{"WorkingDir": "tmp"}, {"Env": ["=x"]}, {"Env": [""]}])
def test_settings_that_make_no_sense(body: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidArgument):
        made(body)


def test_volumes_that_are_binds() -> None:
    found = made({"Volumes": {"/data": {}, "/tmp/": {}}}, Binds=["/srv:/data"], Tmpfs={"/tmp": ""})
    assert [mount.target for mount in found.config.mounts] == ["/data", "/tmp"]
    with pytest.raises(errors.Unimplemented, match="anonymous volumes"):
        made({"Volumes": {"/data": {}, "/more": {}}}, Binds=["/srv:/data"])


def test_a_hostname_is_a_name_in_networks_that_have_names() -> None:
    several = {"NetworkingConfig": {"EndpointsConfig": {"net": {"Aliases": ["al"]}, "other": None}}}
    found = made({"Hostname": "box", **several}, NetworkMode="net").record.legs
    assert found == (Leg("net", ("al", "box")), Leg("other", ("box",)))
    assert made({"Hostname": "box"}).record.legs == (Leg("bridge"),)


def asking(network: str, **settings: Any) -> dict[str, Any]:
    return {"NetworkingConfig": {"EndpointsConfig": {network: settings}}}


def test_addresses_of_its_own() -> None:
    both = {"IPv4Address": "10.0.1.7", "IPv6Address": "fd00::7", "LinkLocalIPs": ["169.254.1.1"]}
    found = made(asking("net", IPAMConfig=both), NetworkMode="net")
    assert found.record.legs == (Leg("net", (), "10.0.1.7", wanted6="fd00::7", link_local=("169.254.1.1",)),)
    for key, version in (("IPv4Address", "IPv4"), ("IPv6Address", "IPv6")):
        for wrong in ("foo", {"IPv4Address": "fd00::7"}.get(key, "10.0.1.7")):
            with pytest.raises(errors.InvalidArgument, match=f"^invalid {version} address: {wrong}$"):
                made(asking("net", IPAMConfig={key: wrong}), NetworkMode="net")


def test_a_mac_of_its_own() -> None:
    mac = "92:d0:c6:0a:29:33"
    assert made({"MacAddress": mac.upper()}).record.legs == (Leg("bridge", mac=mac),)
    assert made(asking("net", MacAddress=mac), NetworkMode="net").record.legs == (Leg("net", mac=mac),)
    second = {"MacAddress": mac, **asking("two", MacAddress="92:d0:c6:0a:29:34")}
    assert [leg.mac for leg in made(second, NetworkMode="net").record.legs] == [mac, "92:d0:c6:0a:29:34"]
    with pytest.raises(errors.InvalidArgument, match="the container-wide MAC address must match"):
        made({"MacAddress": mac, **asking("net", MacAddress="92:d0:c6:0a:29:34")}, NetworkMode="net")
    with pytest.raises(errors.InvalidArgument, match=r"^invalid MAC address zz$"):
        made({"MacAddress": "zz"})
    for mode in ("host", "container:other"):
        with pytest.raises(
            errors.InvalidArgument, match=r"^conflicting options: mac-address and the network mode$"
        ):
            made({"MacAddress": mac}, NetworkMode=mode)
    assert made({"MacAddress": mac}, NetworkMode="none").record.legs == ()


def test_clients_of_an_older_api_mean_nothing_by_a_networks_mac() -> None:
    body = {
        "Image": "alpine",
        "HostConfig": {"NetworkMode": "net"},
        **asking("net", MacAddress="92:d0:c6:0a:29:33"),
    }
    assert request(Fields(body), "one", ID, "node1", macs=False).record.legs == (Leg("net"),)
