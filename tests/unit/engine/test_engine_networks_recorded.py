"""Networks as the real docker CLI asks for them and as the real daemon shows them: one whole way, body to inspection.

Between the two stands what an allocator gives: subnet, gateway, number.
"""

import dataclasses

import pytest
from engine_fakes import NOW

from common import model
from manager.allocator import allocate, subnets

VXLAN = "com.docker.network.driver.overlay.vxlanid_list"
MTU = "com.docker.network.driver.mtu"


def asked(name, pools=(), **fields):
    """What `docker network create -d overlay` sends."""
    return {
        "Driver": "overlay", "Scope": "", "IPAM": {"Driver": "default", "Options": {}, "Config": list(pools)},
        "Internal": False, "Attachable": False, "Ingress": False, "ConfigOnly": False, "ConfigFrom": None,
        "Options": {}, "Labels": {}, "Name": name, "CheckDuplicate": True, **fields,
    }  # fmt: skip


def shown(name, pools, vni, **fields):
    """What `docker network inspect` gets on a manager that has no task in it."""
    options = {**fields.pop("Options", {}), VXLAN: str(vni)}
    return {
        "Name": name, "Id": "id", "Created": "2026-11-21T02:20:20Z", "Scope": "swarm", "Driver": "overlay",
        "EnableIPv6": False, "IPAM": {"Driver": "default", "Options": None, "Config": list(pools)},
        "Internal": False, "Attachable": False, "Ingress": False, "ConfigFrom": {"Network": ""}, "ConfigOnly": False,
        "Containers": None, "Options": options, "Labels": None, **fields,
    }  # fmt: skip


MANY = [
    {"Subnet": "10.33.0.0/16", "IPRange": "10.33.1.0/24", "Gateway": "10.33.0.100"},
    {"Subnet": "10.34.0.0/16", "Gateway": "10.34.0.100"},
]
INGRESS = {"Subnet": "10.11.0.0/16", "Gateway": "10.11.0.2"}
CASES = {
    "subnet and gateway": (
        asked("sub-net", [{"Subnet": "10.30.0.0/24", "Gateway": "10.30.0.1"}]),
        shown("sub-net", [{"Subnet": "10.30.0.0/24", "Gateway": "10.30.0.1"}], 4099),
    ),
    "host bits": (
        asked("hostbits", [{"Subnet": "10.32.0.5/24"}]),
        shown("hostbits", [{"Subnet": "10.32.0.0/24", "Gateway": "10.32.0.1"}], 4100),
    ),
    "several": (asked("multi-sub", MANY), shown("multi-sub", MANY, 4101)),
    "internal": (
        asked("int-net", Internal=True, Options={MTU: "1400"}, Labels={"env": "dev"}),
        shown("int-net", [{"Subnet": "10.0.4.0/24", "Gateway": "10.0.4.1"}], 4104, Internal=True,
              Options={MTU: "1400"}, Labels={"env": "dev"}),
    ),
    "attachable": (
        asked("my-att", Attachable=True),
        shown("my-att", [{"Subnet": "10.0.4.0/24", "Gateway": "10.0.4.1"}], 4098, Attachable=True),
    ),
    "kept addresses": (
        asked("aux-net", [{"Subnet": "10.35.0.0/24", "AuxiliaryAddresses": {"a": "10.35.0.9"}}]),
        shown("aux-net", [{"Subnet": "10.35.0.0/24", "Gateway": "10.35.0.1",
                           "AuxiliaryAddresses": {"a": "10.35.0.9"}}], 4106),
    ),
    "ingress": (asked("my-ingress", [INGRESS], Ingress=True), shown("my-ingress", [INGRESS], 4107, Ingress=True)),
}  # fmt: skip


def allocated(spec, vni):
    """The network that managers make of a spec; where none is asked for, 10.0.4.0/24 is next."""
    given = spec.ipam.configs or (model.IPAMConfig("10.0.4.0/24"),)
    configs = []
    for config in given:
        subnet = subnets.parse(config.subnet)
        gateway = config.gateway or subnets.gateway(subnet, config)
        configs.append(dataclasses.replace(config, subnet=str(subnet), gateway=gateway))
    state = model.Driver("overlay", {**spec.driver.options, allocate.VXLAN_OPTION: str(vni)})
    ipam = model.IPAMOptions(spec.ipam.driver, tuple(configs))
    return model.Network(
        id="id", version=9, created_at=NOW, spec=spec, ipam=ipam, vni=vni, driver_state=state
    )


@pytest.mark.parametrize("case", CASES)
async def test_from_the_request_to_the_inspection(manager, case):
    body, wanted = CASES[case]
    assert (await manager.ask("POST", "/networks/create", body))[0] == 201
    spec = manager.manager.requests[-1].spec
    manager.manager.networks.clear()
    manager.manager.add(allocated(spec, int(wanted["Options"][VXLAN])))
    status, found = await manager.ask("GET", f"/v1.41/networks/{body['Name']}")
    assert (status, found) == (200, wanted)
    assert list(found) == list(wanted), "clients show the keys in this order"
    assert list(found["Options"]) == sorted(found["Options"])
