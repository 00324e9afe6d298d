"""What answers say more, or no longer, in newer versions of the API."""

from agent.engine import versions

CONTAINER = {
    "Id": "c",
    "NetworkSettings": {
        "Ports": {},
        "Networks": {"net": {"Aliases": ["al", "c1c1"], "X": 1}, "bridge": {"Aliases": None}, "own": {"Aliases": ["c1c1"]}},
    },
}  # fmt: skip
INFO = {
    "BridgeNfIptables": True, "BridgeNfIp6tables": True, "RuncCommit": {"ID": "r", "Expected": "r"},
    "ContainerdCommit": {"ID": "c", "Expected": "c"}, "InitCommit": {"ID": "", "Expected": ""},
    "RegistryConfig": {"AllowNondistributableArtifactsCIDRs": [], "AllowNondistributableArtifactsHostnames": [], "Mirrors": []},
}  # fmt: skip


def test_networks():
    shape = {"Driver": "bridge", "EnableIPv6": False, "IPAM": {}}
    assert versions.network(shape, (1, 47)) == shape
    assert list(versions.network(shape, (1, 48))) == ["Driver", "EnableIPv4", "EnableIPv6", "IPAM"]


def test_containers():
    def seen(version):
        shown = versions.container(CONTAINER, version, "c1c1", "web")
        assert shown["NetworkSettings"]["Ports"] == {}
        return shown["NetworkSettings"]["Networks"]

    assert versions.container(CONTAINER, (1, 43), "c1c1", "web") == CONTAINER
    assert seen((1, 44))["net"] == {"Aliases": ["al", "c1c1"], "X": 1, "DNSNames": ["web", "al", "c1c1"]}
    found = seen((1, 50))
    assert found["net"] == {"Aliases": ["al"], "X": 1, "GwPriority": 0, "DNSNames": ["web", "al", "c1c1"]}
    assert found["bridge"] == {"Aliases": None, "GwPriority": 0, "DNSNames": None}
    assert (found["own"]["Aliases"], found["own"]["DNSNames"]) == (None, ["web", "c1c1"])


def test_info():
    assert versions.info(INFO, (1, 43)) == INFO
    assert versions.info(INFO, (1, 48)) == {**INFO, "CDISpecDirs": []}
    newest = versions.info(INFO, (1, 50))
    assert newest == {
        "RuncCommit": {"ID": "r"}, "ContainerdCommit": {"ID": "c"}, "InitCommit": {"ID": ""}, "CDISpecDirs": [],
        "RegistryConfig": {"Mirrors": []}, "FirewallBackend": {"Driver": "nftables"},
    }  # fmt: skip
