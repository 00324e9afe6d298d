"""tests/lab/truth.py: kernels that agree with a store, and each single thing that doesn't."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.lab.truth import Truth, differences, mac

NAMES = ("web", "tasks.web", "gone")


def network(id: str, subnet: str, ingress: bool = False) -> dict[str, Any]:
    return {"Id": id, "Name": id, "Ingress": ingress, "IPAM": {"Config": [{"Subnet": subnet}]}}


def task(n: int) -> dict[str, Any]:
    legs = [("ing", f"10.0.0.{n + 10}/16"), ("app", f"10.0.1.{n + 10}/24")]
    return {
        "ID": f"task{n}", "ServiceID": "s1", "NodeID": f"node{n}",
        "NetworksAttachments": [{"Network": {"ID": i}, "Addresses": [a]} for i, a in legs],
    }  # fmt: skip


def store() -> Truth:
    service = {
        "ID": "s1", "Spec": {"Name": "web"},
        "Endpoint": {
            "VirtualIPs": [{"NetworkID": "ing", "Addr": "10.0.0.5/16"}, {"NetworkID": "app", "Addr": "10.0.1.5/24"}],
            "Ports": [{"Protocol": "tcp", "PublishedPort": 80, "PublishMode": "ingress"}],
        },
    }  # fmt: skip
    return Truth(
        nodes={"node1": "one", "node2": "two"}, vteps={"one": "10.9.0.1", "two": "10.9.0.2"}, ready=True,
        services=[service],
        networks={"ing": network("ing", "10.0.0.0/16", True), "app": network("app", "10.0.1.0/24")},
        tasks=[task(1), task(2)],
        addresses={"ing": {"10.0.0.11", "10.0.0.12"}, "app": {"10.0.1.11", "10.0.1.12"}},
    )  # fmt: skip


def kernel(own: int, other: int) -> dict[str, Any]:
    vtep = f"10.9.0.{other}"

    def sandbox(*addresses: str) -> dict[str, Any]:
        ports = {f"v{n}": [] for n in range(len(addresses))}
        return {
            "links": {"lo": [], "br0": [], "vxlan0": [], **ports},
            "fdb": sorted(f"{mac(a)} {vtep}" for a in addresses),
            "neighbours": sorted(f"{a} {mac(a)}" for a in addresses),
        }

    return {
        "": {
            "links": {"lo": [], "host0": [], "shoal_ing": [f"10.0.0.{own + 1}/16"], "g0000000000000": []},
            "balancers": {"tcp/80": ["10.0.0.11", "10.0.0.12"]}, "connections": ["10.0.0.11", "192.0.2.1"],
        },
        "n-ing": sandbox(f"10.0.0.{other + 10}", f"10.0.0.{other + 1}"),
        "n-app": sandbox(f"10.0.1.{other + 10}"),
        f"t-task{own}": {
            "links": {"lo": [], "eth0": [f"10.0.0.{own + 10}/16"], "eth1": [f"10.0.1.{own + 10}/24"], "eth2": ["172.18.0.2/16"]},
            "balancers": {"10.0.1.5": ["10.0.1.11", "10.0.1.12"]}, "connections": ["10.0.1.12"],
            "names": {"web": ["10.0.1.5"], "tasks.web": ["10.0.1.11", "10.0.1.12"], "gone": ["NXDOMAIN"]},
        },
    }  # fmt: skip


def found() -> dict[str, Any]:
    return {"one": kernel(1, 2), "two": kernel(2, 1)}


def test_they_agree() -> None:
    assert differences(store(), found(), NAMES) == []


FAULTS: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("namespaces", lambda k: k.update({"t-left": {}})),
    ("docker_gwbridge", lambda k: k[""]["links"].update({"g1111111111111": []})),
    ("legs in the ingress", lambda k: k[""]["links"]["shoal_ing"].append("10.0.0.99/16")),
    ("published", lambda k: k[""]["balancers"]["tcp/80"].pop()),
    ("nobody's", lambda k: k[""]["connections"].append("10.0.0.77")),
    ("app: ports", lambda k: k["n-app"]["links"].update({"v9": []})),
    ("app: FDB", lambda k: k["n-app"]["fdb"].clear()),
    ("ing: neighbours", lambda k: k["n-ing"]["neighbours"].pop()),
    ("addresses", lambda k: k["t-task1"]["links"]["eth1"].clear()),
    ("interfaces", lambda k: k["t-task1"]["links"].pop("eth2")),
    ("balancers", lambda k: k["t-task1"]["balancers"]["10.0.1.5"].append("10.0.1.99")),
    ("web", lambda k: k["t-task1"]["names"].update(web=[])),
    ("gone", lambda k: k["t-task1"]["names"].update(gone=["10.0.1.9"])),
    ("nobody's", lambda k: k["t-task1"]["connections"].append("10.0.1.77")),
]  # fmt: skip


@pytest.mark.parametrize(("what", "fault"), FAULTS)
def test_each_fault_is_told(what: str, fault: Callable[[dict[str, Any]], object]) -> None:
    kernels = copy.deepcopy(found())
    fault(kernels["one"])
    said = differences(store(), kernels, NAMES)
    assert any(what in each and each.startswith("one") for each in said), said
