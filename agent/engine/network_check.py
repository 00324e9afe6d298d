"""The answer of /networks/{id}/check, which is not Docker's. Pure; used by networks.py."""

from __future__ import annotations

from typing import Any

from common import model


def shape(network: model.Network, found: model.NetworkCheck) -> dict[str, Any]:
    """What a check has come to: the nodes, and each fault once, with a sentence for people."""
    return {
        "Network": {"Id": network.id, "Name": network.spec.name, "VXLANId": network.vni, "MTU": found.mtu},
        "Nodes": [
            {
                "ID": node.id,
                "Hostname": node.hostname,
                "Addr": node.addr,
                "State": node.state,
                "OnNetwork": node.on_network,
                "ClockOffset": node.clock_offset,
                "Names": node.names,
                "VIPs": node.vips,
            }
            for node in found.nodes
        ],
        "Faults": [
            {"Kind": fault.kind, "From": list(fault.sources), "To": fault.target, "Text": fault.text}
            for fault in found.faults
        ],
    }
