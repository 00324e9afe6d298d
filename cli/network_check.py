"""`shoal network check`: which nodes reach each other on an overlay, and why not. Docker has no such command."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cli.command import ONE, Command, Session
from cli.errors import CliError
from cli.flags import Flag, Values
from cli.output.tables import table
from cli.values.basic import STRING

_WIDEST = 16
"""Nodes in a matrix; of more only those with a fault are shown."""


def _check(session: Session, flags: Values, names: list[str]) -> int:
    form = flags.text("format")
    if form not in ("", "table", "json"):
        raise CliError("--format takes table or json")
    found = session.client.get(f"/networks/{names[0]}/check")
    if form == "json":
        session.say(json.dumps(found, indent=4))
    else:
        session.out.write(report(found))
    return 1 if found["Faults"] else 0


def report(found: Mapping[str, Any]) -> str:
    """Everything for people: the network, the nodes, the matrix, the faults. Pure."""
    nodes, faults = found["Nodes"], found["Faults"]
    network = found["Network"]
    on = sum(node["OnNetwork"] for node in nodes)
    lines = [
        f"Network {network['Name']} (VXLAN {network['VXLANId']}, MTU {network['MTU']}): on {on} of {len(nodes)} nodes\n\n",
        table(_nodes(nodes, faults)),
    ]
    if len(nodes) > 1:
        lines += ["\n", table(matrix(nodes, faults))]
    lines += ["\n", *(f"{number}. {fault['Text']}.\n" for number, fault in enumerate(faults, 1))]
    if not faults:
        lines.append("No faults found.\n")
    return "".join(lines)


def _nodes(nodes: Sequence[Mapping[str, Any]], faults: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = [["NODE", "ADDRESS", "STATE", "ON NETWORK", "CLOCK", "DNS", "VIP"]]
    for node in nodes:
        own = {fault["Kind"] for fault in faults if fault["To"] == node["ID"] and not fault["From"]}
        ready = node["State"] == "ready"
        rows.append(
            [
                node["Hostname"] or node["ID"],
                node["Addr"],
                node["State"],
                _standing(node, own),
                f"{node['ClockOffset'] / 1e9:+.1f} s" if ready else "-",
                _count("dns", node["Names"], own) if ready else "-",
                _count("vip", node["VIPs"], own) if ready else "-",
            ]
        )
    return rows


def _standing(node: Mapping[str, Any], own: set[str]) -> str:
    if own & {"network", "module"}:
        return "fault"
    return "yes" if node["OnNetwork"] else "not on this network"


def _count(kind: str, tried: int, own: set[str]) -> str:
    if kind in own:
        return "fault"
    return f"ok ({tried})" if tried else "-"


def matrix(nodes: Sequence[Mapping[str, Any]], faults: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Rows are who sends, columns who is to hear it; a cell names the kinds of faults of that way. Pure."""
    cells: dict[tuple[str, str], list[str]] = {}
    for fault in faults:
        for source in fault["From"]:
            cells.setdefault((source, fault["To"]), []).append(fault["Kind"])
    if len(nodes) > _WIDEST:
        involved = {node for pair in cells for node in pair}
        nodes = [node for node in nodes if node["ID"] in involved]
    names = {node["ID"]: node["Hostname"] or node["ID"] for node in nodes}
    states = {node["ID"]: node["State"] for node in nodes}
    rows = [["FROM \\ TO", *names.values()]]
    for source, name in names.items():
        row = [name]
        for target in names:
            if source == target:
                row.append("-")
            elif states[source] != "ready" or states[target] != "ready":
                row.append(states[source] if states[source] != "ready" else states[target])
            else:
                row.append(",".join(cells.get((source, target), ())) or "ok")
        rows.append(row)
    return rows


CHECK = Command(
    "[OPTIONS] NETWORK",
    "Probe the nodes of an overlay network and say what keeps them apart",
    _check,
    (Flag("format", STRING, 'Format of the output: "table" or "json"'),),
    ONE,
)
