"""What POST /networks/create asks for: from the body to a network's spec, and what is wrong with it by itself. Pure.

Called by networks.py. The texts are the daemon's own, without gRPC's code in front; managers check the same again.
"""

from __future__ import annotations

import ipaddress

from agent.engine.http import Fields
from common import errors, model

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


def refuse_nameless(name: str) -> None:
    """A network of this node may be called almost anything, but not nothing; overlays have their own rules."""
    if not name.strip():
        raise errors.InvalidArgument("invalid name: name is empty")


def spec(fields: Fields, name: str, driver: str) -> model.NetworkSpec:
    """The spec of an overlay; raises errors.ShoalError in Docker's words."""
    return model.NetworkSpec(
        name=name,
        labels=fields.table("Labels"),
        driver=model.Driver(driver, fields.table("Options")),
        ipv6_enabled=fields.flag("EnableIPv6"),
        internal=fields.flag("Internal"),
        attachable=fields.flag("Attachable"),
        ingress=fields.flag("Ingress"),
        ipam=None if fields.get("IPAM") is None else _ipam(fields.part("IPAM", "network.IPAM")),
    )


def _ipam(fields: Fields) -> model.IPAMOptions:
    configs = tuple(pool(item) for item in fields.objects("Config", "network.IPAMConfig"))
    driver = model.Driver(fields.text("Driver") or "default", fields.table("Options"))
    return model.IPAMOptions(driver=driver, configs=configs)


def pool(fields: Fields) -> model.IPAMConfig:
    """One subnet with what is to be given and what is to be kept of it."""
    text = fields.text("Subnet")
    found = model.IPAMConfig(
        text, fields.text("IPRange"), fields.text("Gateway"), fields.table("AuxiliaryAddresses")
    )
    subnet = parse(text) if text else None
    if subnet is None:
        raise errors.ShoalError(f"Invalid subnet {text} : invalid CIDR address: {text}")
    if faults := _faults(found, subnet):
        raise errors.InvalidArgument("invalid network config:\n" + "\n".join(faults))
    return found


def parse(text: str) -> Subnet | None:
    """A subnet with its prefix length; None for what is none. Host bits are allowed, as Docker allows them."""
    if "/" not in text or "%" in text:
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _faults(config: model.IPAMConfig, subnet: Subnet) -> list[str]:
    faults: list[str] = []
    if config.range and (fault := _range_fault(config.range, subnet)):
        faults.append(f"invalid ip-range {config.range}: {fault}")
    if config.gateway and (fault := _address_fault(config.gateway, subnet)):
        faults.append(f"invalid gateway {config.gateway}: {fault}")
    for name, address in sorted(config.reserved.items()):
        if fault := _address_fault(address, subnet):
            faults.append(f"invalid auxiliary address {name}: {fault}")
    return faults


def _range_fault(text: str, subnet: Subnet) -> str:
    found = parse(text)
    if found is None:
        return "invalid CIDR block notation"
    if found.version != subnet.version:
        return f"parent subnet is an IPv{subnet.version} block"
    if found.prefixlen < subnet.prefixlen:
        return f"CIDR block is bigger than its parent subnet {subnet}"
    return "" if found.overlaps(subnet) else f"parent subnet {subnet} doesn't contain ip-range"


def _address_fault(text: str, subnet: Subnet) -> str:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return "invalid address"
    if "%" in text:
        return "invalid address"
    if found.version != subnet.version:
        return f"parent subnet is an IPv{subnet.version} block"
    return "" if found in subnet else f"parent subnet {subnet} doesn't contain this address"
