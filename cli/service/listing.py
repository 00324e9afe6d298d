"""`shoal service ls` and `ps`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cli.client import filters_of
from cli.command import SOME, Command, Session
from cli.common_flags import (
    FILTERS,
    LIST_FORMAT,
    NO_RESOLVE,
    NO_TRUNC,
    QUIET_IDS,
    QUIET_TASKS,
    TASK_FORMAT,
)
from cli.errors import CliError
from cli.flags import Values
from cli.node import natural
from cli.output.listing import write_list
from cli.values.images import familiar

_HEADERS = {
    "ID": "ID",
    "Name": "NAME",
    "Mode": "MODE",
    "Replicas": "REPLICAS",
    "Image": "IMAGE",
    "Ports": "PORTS",
}
_TABLE = "{{.ID}}\t{{.Name}}\t{{.Mode}}\t{{.Replicas}}\t{{.Image}}\t{{.Ports}}"
_MODES = {
    "Replicated": "replicated",
    "Global": "global",
    "ReplicatedJob": "replicated job",
    "GlobalJob": "global job",
}


def _ls(session: Session, flags: Values, _: list[str]) -> int:
    client = session.client
    query = {} if flags.on("quiet") else {"status": "true"}
    services = client.get("/services", query, filters_of(flags.every("filter")))
    show_services(session, services, flags)
    return 0


def show_services(session: Session, services: list[dict[str, Any]], flags: Values) -> None:
    """The table of services; also `stack services`."""
    quiet = flags.on("quiet")
    if not quiet and any("ServiceStatus" not in service for service in services):
        _count(session, services)
    ordered = sorted(services, key=lambda service: natural(service["Spec"].get("Name", "")))
    rows = [_row(service) for service in ordered]
    write_list(session.out, rows, _HEADERS, _TABLE, flags.text("format"), "ID" if quiet else "")


def _count(session: Session, services: list[dict[str, Any]]) -> None:
    """Count tasks ourselves where the daemon didn't."""
    tasks = session.client.get("/tasks", filters={"service": {service["ID"]: True for service in services}})
    for service in services:
        own = [task for task in tasks if task.get("ServiceID") == service["ID"]]
        running = sum(1 for task in own if (task.get("Status") or {}).get("State") == "running")
        wanted = sum(1 for task in own if task.get("DesiredState") in ("running", "ready"))
        mode = service["Spec"].get("Mode") or {}
        if mode.get("Replicated") is not None:
            wanted = mode["Replicated"].get("Replicas", wanted)
        service["ServiceStatus"] = {"RunningTasks": running, "DesiredTasks": wanted, "CompletedTasks": 0}


def _row(service: dict[str, Any]) -> dict[str, str | bool]:
    spec = service["Spec"]
    mode = next((name for name in _MODES if (spec.get("Mode") or {}).get(name) is not None), "")
    container = (spec.get("TaskTemplate") or {}).get("ContainerSpec") or {}
    return {
        "ID": service["ID"][:12],
        "Name": spec.get("Name", ""),
        "Mode": _MODES.get(mode, ""),
        "Replicas": _replicas(service, mode),
        "Image": familiar(container.get("Image", "")),
        "Ports": ports((service.get("Endpoint") or {}).get("Ports") or []),
    }


def _replicas(service: dict[str, Any], mode: str) -> str:
    status = service.get("ServiceStatus") or {}
    running, wanted = status.get("RunningTasks", 0), status.get("DesiredTasks", 0)
    completed = status.get("CompletedTasks", 0)
    spec = service["Spec"]
    most = ((spec.get("TaskTemplate") or {}).get("Placement") or {}).get("MaxReplicas", 0)
    if mode == "ReplicatedJob":
        total = spec["Mode"]["ReplicatedJob"].get("TotalCompletions", 0)
        concurrent = spec["Mode"]["ReplicatedJob"].get("MaxConcurrent", 0)
        return f"{running}/{concurrent} ({completed}/{total} completed)"
    if mode == "GlobalJob":
        return f"{running}/{wanted} ({completed}/{wanted + completed} completed)"
    limit = f" (max {most} per node)" if most and mode == "Replicated" else ""
    return f"{running}/{wanted}{limit}"


def ports(configs: list[dict[str, Any]]) -> str:
    """Ingress ports, neighbouring ones as a range: "*:9000-9002->9000-9002/tcp", "*:9000-9002->80/tcp"."""
    mapped = sorted(
        {
            (str(config.get("Protocol", "tcp")), int(config["PublishedPort"]), int(config["TargetPort"]))
            for config in configs
            if config.get("PublishMode") == "ingress" and config.get("PublishedPort")
        }
    )
    ranges: list[_Range] = []
    for protocol, published, target in mapped:
        if ranges and ranges[-1].takes(protocol, published, target):
            ranges[-1].published[1], ranges[-1].targets[1] = published, target
        else:
            ranges.append(_Range(protocol, [published, published], [target, target]))
    return ", ".join(f"*:{_span(*r.published)}->{_span(*r.targets)}/{r.protocol}" for r in ranges)


@dataclass(frozen=True, slots=True)
class _Range:
    """Both lists: first and last."""

    protocol: str
    published: list[int]
    targets: list[int]

    def takes(self, protocol: str, published: int, target: int) -> bool:
        """Whether a port goes on where this ends: with the next target, or all to the one."""
        first, last = self.targets
        goes_on = published - self.published[1] in (0, 1) and target - last in (0, 1)
        return protocol == self.protocol and goes_on and not (first != last and target <= last)


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _ps(session: Session, flags: Values, names: list[str]) -> int:
    from cli.tasks import show_tasks

    services, problems = _find(session, names)
    if services:
        wanted = filters_of(flags.every("filter"))
        for service_id in services:
            wanted.setdefault("service", {})[service_id] = True
        if "self" in wanted.get("node", {}):
            from cli.node import reference

            wanted["node"].pop("self")
            wanted["node"][reference(session.client, "self")] = True
        tasks = session.client.get("/tasks", filters=wanted)
        show_tasks(session, tasks, flags, bare_ids=flags.on("quiet"))
    if problems:
        raise CliError("\n".join(problems))
    return 0


def _find(session: Session, names: list[str]) -> tuple[list[str], list[str]]:
    """Ids of the services that have these ids, names, or beginnings of ids."""
    wanted = dict.fromkeys(names, True)
    by_id = session.client.get("/services", filters={"id": wanted})
    by_name = session.client.get("/services", filters={"name": wanted})
    found: list[str] = []
    problems: list[str] = []
    for name in names:
        exact = [service["ID"] for service in by_id if service["ID"] == name]
        exact = exact or [service["ID"] for service in by_name if service["Spec"].get("Name") == name]
        prefixed = [service["ID"] for service in by_id if service["ID"].startswith(name)]
        if exact:
            found.append(exact[0])
        elif len(prefixed) == 1:
            found.append(prefixed[0])
        elif prefixed:
            problems.append(f"multiple services found with provided prefix: {name}")
        else:
            problems.append(f"no such service: {name}")
    return found, problems


LS = Command("[OPTIONS]", "List services", _ls, (FILTERS, LIST_FORMAT, QUIET_IDS), aliases=("list",))
PS = Command(
    "[OPTIONS] SERVICE [SERVICE...]",
    "List the tasks of one or more services",
    _ps,
    (FILTERS, TASK_FORMAT, NO_RESOLVE, NO_TRUNC, QUIET_TASKS),
    SOME,
)
