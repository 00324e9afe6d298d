"""What an answer says more, or no longer, in newer versions of the Engine API. Pure; called by the nouns just before they answer.

Shapes are made as API 1.41 has them; each function brings one to the version that the client speaks.
"""

from __future__ import annotations

from typing import Any, Final

Shape = dict[str, Any]
Version = tuple[int, ...]

_CDI_SINCE: Final = (1, 44)
_DNS_NAMES_SINCE: Final = (1, 44)
_OWN_ALIASES_SINCE: Final = (1, 45)
_IPV4_SINCE: Final = (1, 48)
_GATEWAY_PRIORITY_SINCE: Final = (1, 48)
_FIREWALL_SINCE: Final = (1, 49)
_EXPECTED_UNTIL: Final = (1, 49)
_NETFILTER_UNTIL: Final = (1, 50)
_COMMITS: Final = ("ContainerdCommit", "RuncCommit", "InitCommit")
_ARTIFACTS: Final = ("AllowNondistributableArtifactsCIDRs", "AllowNondistributableArtifactsHostnames")
_NETFILTER: Final = ("BridgeNfIptables", "BridgeNfIp6tables")


def network(shape: Shape, version: Version) -> Shape:
    """Of GET /networks and /networks/{id}: there is no network without IPv4."""
    if version < _IPV4_SINCE:
        return shape
    shown: Shape = {}
    for key, value in shape.items():
        if key == "EnableIPv6":
            shown["EnableIPv4"] = True
        shown[key] = value
    return shown


def container(shape: Shape, version: Version, short_id: str, name: str) -> Shape:
    """Of GET /containers/json and /containers/{id}/json: what it is called in its networks."""
    if version < _DNS_NAMES_SINCE:
        return shape
    settings = shape["NetworkSettings"]
    found = {
        network: _endpoint(endpoint, version, short_id, name)
        for network, endpoint in settings["Networks"].items()
    }
    return {**shape, "NetworkSettings": {**settings, "Networks": found}}


def _endpoint(endpoint: Shape, version: Version, short_id: str, name: str) -> Shape:
    aliases = endpoint["Aliases"]
    shown = dict(endpoint)
    if aliases is not None and version >= _OWN_ALIASES_SINCE:
        shown["Aliases"] = [alias for alias in aliases if alias != short_id] or None
    if version >= _GATEWAY_PRIORITY_SINCE:
        shown["GwPriority"] = 0
    shown["DNSNames"] = None if aliases is None else list(dict.fromkeys((name, *aliases)))
    return shown


def info(shape: Shape, version: Version) -> Shape:
    """Of GET /info."""
    shown = dict(shape)
    if version >= _CDI_SINCE:
        shown["CDISpecDirs"] = []
    if version >= _FIREWALL_SINCE:
        shown["FirewallBackend"] = {"Driver": "nftables"}
    if version >= _EXPECTED_UNTIL:
        shown |= {key: {"ID": shown[key]["ID"]} for key in _COMMITS}
        registries = shown["RegistryConfig"]
        shown["RegistryConfig"] = {k: v for k, v in registries.items() if k not in _ARTIFACTS}
    if version >= _NETFILTER_UNTIL:
        shown = {key: value for key, value in shown.items() if key not in _NETFILTER}
    return shown
