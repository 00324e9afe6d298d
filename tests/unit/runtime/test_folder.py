"""A container's folder: its record and the files for /etc."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agent.runtime.api import ContainerConfig, Device, ExitStatus, Mount, Ulimit
from agent.runtime.folder import Folders, Record, hosts_text, resolv_text
from common.errors import InvalidArgument

CONFIG = ContainerConfig(
    id="ab" * 32, name="web.1.x", image="nginx", labels={"a": "b"}, args=("x", "y"), env=("A=b",),
    mounts=(Mount("bind", "/a", "/b", True, ("rshared",)), Mount("bind", "/c", "/d", listed=False)), ulimits=(Ulimit("nofile", 1, 2),),
    devices=(Device("/dev/null", "/dev/x"),), sysctls={"k": "v"}, hostname="fish", addresses=("10.0.0.3",),
)  # fmt: skip
RECORD = Record(CONFIG, "sha256:1", "SIGTERM", 5, 6, ExitStatus(137, 7, True))


def test_the_record_comes_back(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    files = folders.prepare(RECORD)
    assert folders.load(CONFIG.id) == RECORD
    assert Path(files.hostname).read_text() == "fish\n"
    assert (tmp_path / CONFIG.id).stat().st_mode & 0o777 == 0o700
    later = replace(RECORD, exit=None, started_at=9)
    folders.save(later)
    assert folders.load(CONFIG.id) == later
    assert folders.ids() == [CONFIG.id]
    folders.remove(CONFIG.id)
    folders.remove(CONFIG.id)
    assert (folders.ids(), folders.load(CONFIG.id)) == ([], None)


def test_a_record_of_another_version_is_read(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    folders.prepare(RECORD)
    path = tmp_path / CONFIG.id / "config.json"
    data = json.loads(path.read_text())
    data["config"]["of_tomorrow"] = 1
    data["config"]["mounts"][0]["of_tomorrow"] = 1
    del data["config"]["mounts"][0]["listed"]  # of yesterday
    path.write_text(json.dumps(data))
    assert folders.load(CONFIG.id) == RECORD
    path.write_text("{torn")
    assert folders.load(CONFIG.id) is None


def test_hosts() -> None:
    text = hosts_text(
        replace(CONFIG, extra_hosts=("10.1.1.1 a b", "c:10.1.1.2", "d:[fd00::1]"), domainname="sea")
    )
    assert text.startswith("127.0.0.1\tlocalhost\n")
    assert "10.1.1.1\ta b\n10.1.1.2\tc\nfd00::1\td\n10.0.0.3\tfish.sea fish\n" in text
    linked = hosts_text(
        replace(CONFIG, extra_hosts=("c:10.1.1.2",), linked_hosts=("172.17.0.2 db cc other",))
    )
    assert linked.endswith("10.1.1.2\tc\n172.17.0.2\tdb cc other\n10.0.0.3\tfish\n")
    with pytest.raises(InvalidArgument, match="bad format for add-host"):
        hosts_text(replace(CONFIG, extra_hosts=("nonsense",)))


def test_resolv_conf() -> None:
    text = resolv_text(replace(CONFIG, dns_search=("a", "b")))
    assert text == "nameserver 127.0.0.11\nsearch a b\noptions ndots:0\n"


def test_a_container_in_the_nodes_network_has_the_nodes_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = tmp_path / "etc"
    nodes.mkdir()
    (nodes / "hosts").write_text("192.0.2.1\tnode")
    (nodes / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    monkeypatch.setattr("agent.runtime.folder._NODES_HOSTS", nodes / "hosts")
    monkeypatch.setattr("agent.runtime.folder._NODES_RESOLVERS", nodes / "resolv.conf")
    config = replace(
        CONFIG, host_network=True, addresses=(), dns_nameservers=(), dns_search=("a",), dns_options=(), extra_hosts=("192.0.2.9 db",)
    )  # fmt: skip
    files = Folders(tmp_path / "c").prepare(replace(RECORD, config=config))
    assert Path(files.hosts).read_text() == "192.0.2.1\tnode\n192.0.2.9\tdb\n"
    assert Path(files.resolv_conf).read_text() == "nameserver 192.0.2.53\nsearch a\n"
    (nodes / "resolv.conf").unlink()
    asked = replace(config, dns_nameservers=("192.0.2.54",))
    files = Folders(tmp_path / "c").prepare(replace(RECORD, config=asked))
    assert Path(files.resolv_conf).read_text() == "nameserver 192.0.2.54\nsearch a\n"
    Folders(tmp_path / "c").prepare(replace(RECORD, config=config))
    assert Path(files.resolv_conf).read_text() == "search a\n"
