"""`shoal network …`."""

from __future__ import annotations

import ipaddress
from typing import Any

from cli.client import filters_of
from cli.command import ONE, SOME, Arguments, Command, Entry, Group, Session
from cli.common_flags import FILTERS, INSPECT_FORMAT, LIST_FORMAT
from cli.each import confirm
from cli.errors import ApiError, CliError
from cli.flags import Flag, Values
from cli.output.inspecting import inspect
from cli.output.listing import write_list
from cli.output.units import go_time
from cli.values.basic import BOOL, FILTER, INT, LABELS, LINKS, MAP, STRING, STRINGS, as_map

GROUP = Group(
    "Manage networks",
    (
        Entry(
            "check",
            "Probe the nodes of an overlay network and say what keeps them apart",
            "cli.network_check:CHECK",
        ),
        Entry("connect", "Connect a container to a network", "cli.network:CONNECT"),
        Entry("create", "Create a network", "cli.network:CREATE"),
        Entry("disconnect", "Disconnect a container from a network", "cli.network:DISCONNECT"),
        Entry("inspect", "Display detailed information on one or more networks", "cli.network:INSPECT"),
        Entry("ls", "List networks", "cli.network:LS", ("list",)),
        Entry("prune", "Remove all unused networks", "cli.network:PRUNE"),
        Entry("rm", "Remove one or more networks", "cli.network:RM", ("remove",)),
    ),
)
_HEADERS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
}
_TABLE = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}"
_INGRESS_WARNING = (
    "WARNING! Before removing the routing-mesh network, make sure all the nodes in your swarm run the same docker "
    "engine version. Otherwise, removal may not be effective and functionality of newly create ingress networks "
    "will be impaired.\nAre you sure you want to continue?"
)


def _ls(session: Session, flags: Values, _: list[str]) -> int:
    from cli.node import natural

    networks = sorted(
        session.client.get("/networks", filters=filters_of(flags.every("filter"))),
        key=lambda network: natural(network.get("Name", "")),
    )
    rows: list[dict[str, str | bool]] = [
        {
            "ID": network["Id"] if flags.on("no-trunc") else network["Id"][:12],
            "Name": network.get("Name", ""),
            "Driver": network.get("Driver", ""),
            "Scope": network.get("Scope", ""),
            "IPv4": str(network.get("EnableIPv4", False)).lower(),
            "IPv6": str(network.get("EnableIPv6", False)).lower(),
            "Internal": str(network.get("Internal", False)).lower(),
            "Labels": ",".join(
                f"{key}={value}" for key, value in sorted((network.get("Labels") or {}).items())
            ),
            "CreatedAt": go_time(network.get("Created", "")),
        }
        for network in networks
    ]
    labels = [network.get("Labels") or {} for network in networks]
    quiet = "ID" if flags.on("quiet") else ""
    write_list(session.out, rows, _HEADERS, _TABLE, flags.text("format"), quiet, labels)
    return 0


def _create(session: Session, flags: Values, names: list[str]) -> int:
    client = session.client
    request: dict[str, Any] = {
        "Name": names[0],
        "Driver": flags.text("driver"),
        "Scope": flags.text("scope"),
        "IPAM": {
            "Driver": flags.text("ipam-driver"),
            "Options": dict(flags.every("ipam-opt")),
            "Config": ipam_config(flags),
        },
        "Internal": flags.on("internal"),
        "Attachable": flags.on("attachable"),
        "Ingress": flags.on("ingress"),
        "ConfigOnly": flags.on("config-only"),
        "ConfigFrom": {"Network": flags.text("config-from")} if flags.text("config-from") else None,
        "Options": dict(flags.every("opt")),
        "Labels": as_map(flags.every("label")),
    }
    if flags.changed("ipv4"):
        request["EnableIPv4"] = flags.on("ipv4")
    if flags.changed("ipv6"):
        request["EnableIPv6"] = flags.on("ipv6")
    if not client.at_least("1.44"):
        request["CheckDuplicate"] = True
    answer = client.post("/networks/create", request)
    if answer.get("Warning"):
        session.warn(f"WARNING: {answer['Warning']}")
    session.say(answer["Id"])
    return 0


def ipam_config(flags: Values) -> list[dict[str, Any]]:
    """Subnets with their ranges, gateways and reserved addresses, each of which must lie in one of them. Pure."""
    subnets: list[str] = flags.every("subnet")
    gateways: list[str] = flags.every("gateway")
    ranges: list[str] = flags.every("ip-range")
    if len(subnets) < len(ranges) or len(subnets) < len(gateways):
        raise CliError("every ip-range or gateway must have a corresponding subnet")
    for part in ranges:
        if not _is_cidr(part):
            raise CliError(f"invalid CIDR address: {part}")
    configs: dict[str, dict[str, Any]] = {}
    for subnet in subnets:
        for other in configs:
            if _holds(other, subnet.partition("/")[0]) or _holds(subnet, other.partition("/")[0]):
                raise CliError("multiple overlapping subnet configuration is not supported")
        configs[subnet] = {"Subnet": subnet}
    _place(configs, ranges, "IPRange", "ip-range", "no matching subnet for range {}")
    _place(configs, gateways, "Gateway", "gateway", "no matching subnet for gateway {}")
    for name, address in flags.every("aux-address"):
        subnet = next((subnet for subnet in subnets if _holds(subnet, address)), "")
        if not subnet:
            raise CliError(f"no matching subnet for aux-address {address}")
        configs[subnet].setdefault("AuxiliaryAddresses", {})[name] = address
    return [_ordered(config) for config in configs.values()]


def _place(configs: dict[str, dict[str, Any]], values: list[str], key: str, flag: str, missing: str) -> None:
    for value in values:
        subnet = next((subnet for subnet in configs if _holds(subnet, value.partition("/")[0])), "")
        if not subnet:
            raise CliError(missing.format(value))
        if key in configs[subnet]:
            raise CliError(
                f"cannot configure multiple {flag}s ({value}, {configs[subnet][key]}) on the same subnet ({subnet})"
            )
        configs[subnet][key] = value


def _holds(subnet: str, address: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(subnet, strict=False)
    except ValueError:
        return False


def _is_cidr(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text


def _ordered(config: dict[str, Any]) -> dict[str, Any]:
    return {
        key: config[key] for key in ("Subnet", "IPRange", "Gateway", "AuxiliaryAddresses") if key in config
    }


def _inspect(session: Session, flags: Values, names: list[str]) -> int:
    query = {"verbose": "true"} if flags.on("verbose") else {}
    form = flags.text("format")
    return inspect(
        session, names, lambda name: session.client.get(f"/networks/{name}", query), form, escape=False
    )


def _rm(session: Session, flags: Values, names: list[str]) -> int:
    failed = False
    for name in names:
        if _is_ingress(session, name) and not confirm(session, _INGRESS_WARNING):
            continue
        try:
            session.client.delete(f"/networks/{name}")
        except ApiError as error:
            if flags.on("force") and error.is_not_found:
                continue
            session.warn(error.message)
            failed = True
            continue
        session.say(name)
    if failed:
        raise CliError("exit status 1")
    return 0


def _is_ingress(session: Session, name: str) -> bool:
    try:
        return bool(session.client.get(f"/networks/{name}").get("Ingress"))
    except ApiError:
        return False  # the removal itself will say what's wrong


def _connect(session: Session, flags: Values, names: list[str]) -> int:
    addresses = {
        "IPv4Address": flags.text("ip"),
        "IPv6Address": flags.text("ip6"),
        "LinkLocalIPs": flags.every("link-local-ip"),
    }
    endpoint: dict[str, Any] = {
        "IPAMConfig": {key: value for key, value in addresses.items() if value},
        "Links": flags.every("link") or None,
        "Aliases": flags.every("alias"),
        "DriverOpts": as_map(flags.every("driver-opt")),
        "GwPriority": flags["gw-priority"] or 0,
    }
    session.client.post(f"/networks/{names[0]}/connect", {"Container": names[1], "EndpointConfig": endpoint})
    return 0


def _disconnect(session: Session, flags: Values, names: list[str]) -> int:
    body = {"Container": names[1], "Force": flags.on("force")}
    session.client.post(f"/networks/{names[0]}/disconnect", body)
    return 0


def _prune(session: Session, flags: Values, _: list[str]) -> int:
    warning = "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?"
    if not flags.on("force") and not confirm(session, warning):
        return 0
    filters = filters_of(flags.every("filter"))
    removed = session.client.post("/networks/prune", filters=filters).get("NetworksDeleted") or []
    if removed:
        session.say("Deleted Networks:\n" + "\n".join(removed) + "\n")
    return 0


CREATE = Command(
    "[OPTIONS] NETWORK",
    "Create a network",
    _create,
    (
        Flag("attachable", BOOL, "Enable manual container attachment"),
        Flag("aux-address", MAP, "Auxiliary IPv4 or IPv6 addresses used by Network driver", shown="map[]"),
        Flag("config-from", STRING, "The network from which to copy the configuration"),
        Flag("config-only", BOOL, "Create a configuration only network"),
        Flag("driver", STRING, "Driver to manage the Network", short="d", default="bridge", shown='"bridge"'),
        Flag("gateway", STRINGS, "IPv4 or IPv6 Gateway for the master subnet"),
        Flag("ingress", BOOL, "Create swarm routing-mesh network"),
        Flag("internal", BOOL, "Restrict external access to the network"),
        Flag("ip-range", STRINGS, "Allocate container ip from a sub-range"),
        Flag("ipam-driver", STRING, "IP Address Management Driver", default="default", shown='"default"'),
        Flag("ipam-opt", MAP, "Set IPAM driver specific options", shown="map[]"),
        Flag("ipv4", BOOL, "Enable or disable IPv4 address assignment", default=True, shown="true"),
        Flag("ipv6", BOOL, "Enable or disable IPv6 address assignment"),
        Flag("label", LABELS, "Set metadata on a network"),
        Flag("opt", MAP, "Set driver specific options", short="o", shown="map[]"),
        Flag("scope", STRING, "Control the network's scope"),
        Flag("subnet", STRINGS, "Subnet in CIDR format that represents a network segment"),
    ),
    ONE,
)
LS = Command(
    "[OPTIONS]",
    "List networks",
    _ls,
    (
        Flag("filter", FILTER, 'Provide filter values (e.g. "driver=bridge")', short="f"),
        LIST_FORMAT,
        Flag("no-trunc", BOOL, "Do not truncate the output"),
        Flag("quiet", BOOL, "Only display network IDs", short="q"),
    ),
    aliases=("list",),
)
INSPECT = Command(
    "[OPTIONS] NETWORK [NETWORK...]",
    "Display detailed information on one or more networks",
    _inspect,
    (INSPECT_FORMAT, Flag("verbose", BOOL, "Verbose output for diagnostics", short="v")),
    SOME,
)
RM = Command(
    "NETWORK [NETWORK...]",
    "Remove one or more networks",
    _rm,
    (Flag("force", BOOL, "Do not error if the network does not exist", short="f"),),
    SOME,
    aliases=("remove",),
)
CONNECT = Command(
    "[OPTIONS] NETWORK CONTAINER",
    "Connect a container to a network",
    _connect,
    (
        Flag("alias", STRINGS, "Add network-scoped alias for the container"),
        Flag("driver-opt", STRINGS, "driver options for the network"),
        Flag(
            "gw-priority",
            INT,
            "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
        ),
        Flag("ip", STRING, 'IPv4 address (e.g., "172.30.100.104")'),
        Flag("ip6", STRING, 'IPv6 address (e.g., "2001:db8::33")'),
        Flag("link", LINKS, "Add link to another container"),
        Flag("link-local-ip", STRINGS, "Add a link-local address for the container"),
    ),
    Arguments(2, 2),
)
DISCONNECT = Command(
    "[OPTIONS] NETWORK CONTAINER",
    "Disconnect a container from a network",
    _disconnect,
    (Flag("force", BOOL, "Force the container to disconnect from a network", short="f"),),
    Arguments(2, 2),
)
PRUNE = Command(
    "[OPTIONS]",
    "Remove all unused networks",
    _prune,
    (
        Flag("filter", FILTERS.kind, 'Provide filter values (e.g. "until=<timestamp>")'),
        Flag("force", BOOL, "Do not prompt for confirmation", short="f"),
    ),
)
