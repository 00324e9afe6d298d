"""`shoal node …`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cli.client import Client, filters_of
from cli.command import ANY, ONE, SOME, Command, Entry, Group, Session
from cli.common_flags import (
    FILTERS,
    INSPECT_FORMAT,
    LIST_FORMAT,
    NO_RESOLVE,
    NO_TRUNC,
    PRETTY,
    QUIET_IDS,
    QUIET_TASKS,
    TASK_FORMAT,
)
from cli.errors import CliError
from cli.flags import Flag, Values
from cli.output.inspecting import gather, inspect
from cli.output.listing import write_list
from cli.values.basic import BOOL, LABELS, LIST, STRING, as_map

GROUP = Group(
    "Manage Swarm nodes",
    (
        Entry("demote", "Demote one or more nodes from manager in the swarm", "cli.node:DEMOTE"),
        Entry("inspect", "Display detailed information on one or more nodes", "cli.node:INSPECT"),
        Entry("ls", "List nodes in the swarm", "cli.node:LS", ("list",)),
        Entry("promote", "Promote one or more nodes to manager in the swarm", "cli.node:PROMOTE"),
        Entry("ps", "List tasks running on one or more nodes, defaults to current node", "cli.node:PS"),
        Entry("rm", "Remove one or more nodes from the swarm", "cli.node:RM", ("remove",)),
        Entry("update", "Update a node", "cli.node:UPDATE"),
    ),
)

_HEADERS = {
    "ID": "ID",
    "Self": "",
    "Hostname": "HOSTNAME",
    "Status": "STATUS",
    "Availability": "AVAILABILITY",
    "ManagerStatus": "MANAGER STATUS",
    "EngineVersion": "ENGINE VERSION",
    "TLSStatus": "TLS STATUS",
}
_TABLE = (
    "{{.ID}} {{if .Self}}*{{else}} {{end}}\t{{.Hostname}}\t{{.Status}}\t{{.Availability}}\t{{.ManagerStatus}}"
    "\t{{.EngineVersion}}"
)


def reference(client: Client, name: str) -> str:
    """The node's id for "self", else the name as given."""
    if name != "self":
        return name
    info = client.get("/info")
    node_id = info.get("Swarm", {}).get("NodeID", "")
    if node_id:
        return str(node_id)
    client.get("/nodes")  # says why there's no node here
    raise CliError("node ID not found in /info")


def fetch(client: Client, name: str) -> Any:
    return client.get(f"/nodes/{reference(client, name)}")


def _ls(session: Session, flags: Values, _: list[str]) -> int:
    nodes = session.client.get("/nodes", filters=filters_of(flags.every("filter")))
    info: dict[str, Any] = {}
    if nodes and not flags.on("quiet"):
        info = session.client.get("/info")
    nodes = sorted(nodes, key=lambda node: natural(node.get("Description", {}).get("Hostname", "")))
    swarm = info.get("Swarm", {})
    trusted = swarm.get("Cluster", {}).get("TLSInfo") if swarm.get("Cluster") else None
    rows = [_row(node, swarm.get("NodeID", ""), trusted) for node in nodes]
    write_list(session.out, rows, _HEADERS, _TABLE, flags.text("format"), "ID" if flags.on("quiet") else "")
    return 0


def natural(text: str) -> list[tuple[int, int, str]]:
    """A sort key by which worker2 comes before worker10."""
    import re

    return [
        (0, int(piece), "") if piece.isdigit() else (1, 0, piece)
        for piece in re.split(r"(\d+)", text)
        if piece
    ]


def _state(status: dict[str, Any]) -> str:
    """Docker's word, and more where the node's session and gossip differ; `node inspect --pretty` has the sentence."""
    unseen = status.get("State") == "ready" and str(status.get("Message", "")).startswith(
        "not seen by gossip"
    )
    return str(status.get("State", "")).title() + (", unseen" if unseen else "")


def _row(node: dict[str, Any], own_id: str, trusted: Any) -> dict[str, str | bool]:
    description = node.get("Description") or {}
    manager = node.get("ManagerStatus") or {}
    status = "Leader" if manager.get("Leader") else str(manager.get("Reachability", "")).title()
    tls = description.get("TLSInfo") or {}
    tls_status = "Unknown" if trusted is None or not tls else "Ready" if tls == trusted else "Needs Rotation"
    return {
        "ID": node["ID"],
        "Self": node["ID"] == own_id,
        "Hostname": description.get("Hostname", ""),
        "Status": _state(node.get("Status") or {}),
        "Availability": str(node.get("Spec", {}).get("Availability", "")).title(),
        "ManagerStatus": status,
        "EngineVersion": (description.get("Engine") or {}).get("EngineVersion", ""),
        "TLSStatus": tls_status,
    }


def _inspect(session: Session, flags: Values, names: list[str]) -> int:
    form = flags.text("format")
    if not flags.on("pretty"):
        return inspect(session, names, lambda name: fetch(session.client, name), form)
    if form:
        raise CliError("--format is incompatible with human friendly format")
    from cli.node_pretty import pretty

    found, problems = gather(names, lambda name: fetch(session.client, name))
    for node in found:
        session.out.write(pretty(node))
    if problems:
        raise CliError("\n".join(problems))
    return 0


def _ps(session: Session, flags: Values, names: list[str]) -> int:
    from cli.tasks import show_tasks

    wanted = filters_of(flags.every("filter"))
    problems: list[str] = []
    tasks: list[dict[str, Any]] = []
    for name in names or ["self"]:
        try:
            node = fetch(session.client, name)
        except CliError as error:
            problems.append(error.message)
            continue
        wanted.setdefault("node", {})[node["ID"]] = True
    if "node" in wanted:
        tasks = session.client.get("/tasks", filters=wanted)
    if tasks or not problems:
        show_tasks(session, tasks, flags)
    if problems:
        raise CliError("\n".join(problems))
    return 0


def _edit(session: Session, name: str, change: Callable[[dict[str, Any]], bool]) -> bool:
    """Read a node, let `change` alter its spec, write it back unless nothing is to be done."""
    node = session.client.get(f"/nodes/{name}")
    spec = node["Spec"]
    if not change(node):
        return False
    session.client.post(f"/nodes/{node['ID']}/update", spec, {"version": str(node["Version"]["Index"])})
    return True


def _update(session: Session, flags: Values, names: list[str]) -> int:
    def change(node: dict[str, Any]) -> bool:
        spec = node["Spec"]
        if flags.changed("role"):
            spec["Role"] = flags.text("role")
        if flags.changed("availability"):
            spec["Availability"] = flags.text("availability")
        labels = spec.setdefault("Labels", {}) or {}
        labels.update(as_map(flags.every("label-add")))
        for key in flags.every("label-rm"):
            if key not in labels:
                raise CliError(f"key {key} doesn't exist in node's labels")
            del labels[key]
        spec["Labels"] = labels
        return True

    _edit(session, names[0], change)
    session.say(names[0])
    return 0


def _set_role(role: str, done: str) -> Callable[[Session, Values, list[str]], int]:
    def run(session: Session, _: Values, names: list[str]) -> int:
        def change(node: dict[str, Any]) -> bool:
            if node["Spec"].get("Role") == role:
                session.say(f"Node {node['ID']} is already a {role}.")
                return False
            node["Spec"]["Role"] = role
            return True

        for name in names:
            if _edit(session, name, change):
                session.say(done.format(name))
        return 0

    return run


def _rm(session: Session, flags: Values, names: list[str]) -> int:
    problems = []
    query = {"force": "1"} if flags.on("force") else {}
    for name in names:
        try:
            session.client.delete(f"/nodes/{name}", query)
        except CliError as error:
            problems.append(error.message)
            continue
        session.say(name)
    if problems:
        raise CliError("\n".join(problems))
    return 0


LS = Command(
    "[OPTIONS]", "List nodes in the swarm", _ls, (FILTERS, LIST_FORMAT, QUIET_IDS), aliases=("list",)
)
INSPECT = Command(
    "[OPTIONS] self|NODE [NODE...]",
    "Display detailed information on one or more nodes",
    _inspect,
    (INSPECT_FORMAT, PRETTY),
    SOME,
)
PS = Command(
    "[OPTIONS] [NODE...]",
    "List tasks running on one or more nodes, defaults to current node",
    _ps,
    (FILTERS, TASK_FORMAT, NO_RESOLVE, NO_TRUNC, QUIET_TASKS),
    ANY,
)
UPDATE = Command(
    "[OPTIONS] NODE",
    "Update a node",
    _update,
    (
        Flag("availability", STRING, 'Availability of the node ("active", "pause", "drain")'),
        Flag("label-add", LABELS, 'Add or update a node label ("key=value")'),
        Flag("label-rm", LIST, "Remove a node label if exists"),
        Flag("role", STRING, 'Role of the node ("worker", "manager")'),
    ),
    ONE,
)
PROMOTE = Command(
    "NODE [NODE...]",
    "Promote one or more nodes to manager in the swarm",
    _set_role("manager", "Node {} promoted to a manager in the swarm."),
    (),
    SOME,
)
DEMOTE = Command(
    "NODE [NODE...]",
    "Demote one or more nodes from manager in the swarm",
    _set_role("worker", "Manager {} demoted in the swarm."),
    (),
    SOME,
)
RM = Command(
    "[OPTIONS] NODE [NODE...]",
    "Remove one or more nodes from the swarm",
    _rm,
    (Flag("force", BOOL, "Force remove a node from the swarm", short="f"),),
    SOME,
    aliases=("remove",),
)
