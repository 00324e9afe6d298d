"""HostConfig as those who inspect see it."""

from agent.engine import host_config
from agent.engine.http import Fields
from agent.runtime.api import ContainerConfig
from agent.single.record import SingleRecord

CONFIG = ContainerConfig("c" * 64, "web", "nginx")


def shown(**host):
    record = SingleRecord("c" * 64, "web", "net", host_config=host_config.asked(Fields(host)))
    kept = SingleRecord.from_bytes(record.to_bytes())
    return host_config.shown(CONFIG, kept, {})


def test_what_is_asked_for_is_shown_as_it_was() -> None:
    given = {
        "Binds": ["/a:/b:ro"], "Tmpfs": {"/t": "size=1m"}, "ExtraHosts": ["a:host-gateway"], "Dns": ["192.0.2.1"],
        "DnsOptions": ["ndots:2"], "Mounts": [{"Type": "tmpfs", "Target": "/x"}], "Init": False,
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}, "Sysctls": {"net.x": "1"},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}}, "ConsoleSize": [24, 80],
        "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}],
    }  # fmt: skip
    found = shown(**given)
    assert {key: found[key] for key in given} == given


def test_defaults_are_dockers() -> None:
    found = shown(Binds=None, Dns=None, RestartPolicy=None, Ulimits=None, Memory=0, Unknown=1)
    assert (found["Binds"], found["Dns"], found["Ulimits"], found["PidsLimit"]) == (None, [], [], None)
    assert found["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}
    assert (found["NetworkMode"], found["Runtime"], found["IpcMode"]) == ("net", "runc", "private")
    assert "Unknown" not in found
    assert "Tmpfs" not in found


def test_capabilities_have_their_whole_names() -> None:
    found = shown(CapAdd=["net_admin", "CAP_SYS_TIME"], CapDrop=["all"])
    assert (found["CapAdd"], found["CapDrop"]) == (["CAP_NET_ADMIN", "CAP_SYS_TIME"], ["ALL"])


def test_a_task_shows_what_its_container_has() -> None:
    config = ContainerConfig("c", "web.1", "nginx", cap_add=("CAP_CHOWN",), memory_bytes=5, init=True)
    found = host_config.shown(config, None, {})
    assert (found["CapAdd"], found["Memory"], found["Init"], found["Dns"]) == (["CAP_CHOWN"], 5, True, [])
