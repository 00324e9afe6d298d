"""`service inspect --pretty`. Pure; called by `cli.service.inspect`.

The layout, uneven as it is, is Docker's: people and scripts read it.
"""

from __future__ import annotations

from typing import Any

from cli.output.units import binary_size, duration, number, parse_time, since

_CPU = 1_000_000_000


def pretty(service: dict[str, Any], networks: list[str], now: int) -> str:
    spec = service["Spec"]
    template = spec.get("TaskTemplate") or {}
    lines = ["", f"ID:\t\t{service['ID']}", f"Name:\t\t{spec.get('Name', '')}"]
    if spec.get("Labels"):
        lines.append("Labels:")
        lines += [f" {key}={value}" for key, value in sorted(spec["Labels"].items())]
    lines += _mode(spec.get("Mode") or {})
    lines += _update_status(service.get("UpdateStatus") or {}, now)
    lines += _placement(template.get("Placement") or {})
    lines += _update("UpdateConfig", "Update", spec.get("UpdateConfig"))
    lines += _update("RollbackConfig", "Rollback", spec.get("RollbackConfig"))
    container = template.get("ContainerSpec") or {}
    lines += _container(container)
    lines += _files(container)
    lines += _log_driver(template.get("LogDriver") or {})
    lines += _resources(template.get("Resources"))
    if networks:
        lines.append("Networks: " + "".join(f"{name} " for name in networks))
    endpoint = service.get("Endpoint") or {}
    lines.append(f"Endpoint Mode:\t{(spec.get('EndpointSpec') or {}).get('Mode', '')}")
    lines += _ports(endpoint.get("Ports") or [])
    lines += _health(container.get("Healthcheck") or {})
    return "\n".join(lines) + "\n"


def _mode(mode: dict[str, Any]) -> list[str]:
    if mode.get("Global") is not None:
        return ["Service Mode:\tGlobal"]
    if mode.get("Replicated") is not None:
        replicas = mode["Replicated"].get("Replicas")
        return ["Service Mode:\tReplicated", *([f" Replicas:\t{replicas}"] if replicas is not None else [])]
    return ["Service Mode:"]


def _update_status(status: dict[str, Any], now: int) -> list[str]:
    if not status.get("State"):
        return []
    lines = ["UpdateStatus:", f" State:\t\t{status['State']}"]
    if parse_time(status.get("StartedAt") or ""):
        lines.append(f" Started:\t{since(status['StartedAt'], now)}")
    if status["State"] == "completed" and parse_time(status.get("CompletedAt") or ""):
        lines.append(f" Completed:\t{since(status['CompletedAt'], now)}")
    return [*lines, f" Message:\t{status.get('Message', '')}"]


def _placement(placement: dict[str, Any]) -> list[str]:
    lines = ["Placement:"]
    if placement.get("Constraints"):
        lines.append(f" Constraints:\t[{' '.join(placement['Constraints'])}]")
    spreads = [
        f"spread={preference['Spread'].get('SpreadDescriptor', '')}"
        for preference in placement.get("Preferences") or []
        if preference.get("Spread")
    ]
    if spreads:
        lines.append(f" Preferences:   [{' '.join(spreads)}]")
    if placement.get("MaxReplicas"):
        lines.append(f" Max Replicas Per Node:   {placement['MaxReplicas']}")
    return lines


def _update(title: str, word: str, config: dict[str, Any] | None) -> list[str]:
    if config is None:
        return []
    lines = [f"{title}:", f" Parallelism:\t{config.get('Parallelism', 0)}"]
    if config.get("Delay"):
        lines.append(f" Delay:\t\t{duration(config['Delay'])}")
    lines.append(f" On failure:\t{config.get('FailureAction', '')}")
    if config.get("Monitor"):
        lines.append(f" Monitoring Period: {duration(config['Monitor'])}")
    lines.append(f" Max failure ratio: {number(config.get('MaxFailureRatio', 0))}")
    lines.append(f" {word + ' order:':<18} {config.get('Order', '')}")
    return lines


def _container(container: dict[str, Any]) -> list[str]:
    lines = ["ContainerSpec:", f" Image:\t\t{container.get('Image', '')}"]
    for key, title in (("Command", "Command"), ("Args", "Args"), ("Env", "Env")):
        if container.get(key):
            tabs = "\t" if key == "Command" else "\t\t"
            lines.append(f" {title}:{tabs}" + "".join(f"{word} " for word in container[key]))
    if container.get("Dir"):
        lines.append(f" Dir:\t\t{container['Dir']}")
    if "Init" in container and container["Init"] is not None:
        lines.append(f" Init:\t\t{str(container['Init']).lower()}")
    if container.get("User"):
        lines.append(f" User: {container['User']}")
    if container.get("CapabilityAdd") or container.get("CapabilityDrop"):
        lines.append("Capabilities:")
        if container.get("CapabilityAdd"):
            lines.append(f" Add: {', '.join(container['CapabilityAdd'])}")
        if container.get("CapabilityDrop"):
            lines.append(f" Drop: {', '.join(container['CapabilityDrop'])}")
    if container.get("Sysctls"):
        lines.append("SysCtls:")
        lines += [f" {key}: {value}" for key, value in sorted(container["Sysctls"].items())]
    if container.get("Ulimits"):
        lines.append("Ulimits:")
        lines += [f" {limit['Name']}: {limit['Soft']}:{limit['Hard']}" for limit in container["Ulimits"]]
    return lines


def _files(container: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    if container.get("Mounts"):
        lines.append("Mounts:")
    for mount in container.get("Mounts") or []:
        lines += [
            f" Target:\t{mount.get('Target', '')}",
            f"  Source:\t{mount.get('Source', '')}",
            f"  ReadOnly:\t{str(mount.get('ReadOnly', False)).lower()}",
            f"  Type:\t\t{mount.get('Type', '')}",
        ]
    for title, name in (("Configs", "ConfigName"), ("Secrets", "SecretName")):
        if container.get(title):
            lines.append(f"{title}:")
        for reference in container.get(title) or []:
            target = (reference.get("File") or {}).get("Name", "")
            lines += [f" Target:\t{target}", f"  Source:\t{reference.get(name, '')}"]
    return lines


def _log_driver(driver: dict[str, Any]) -> list[str]:
    if not driver.get("Name"):
        return []
    lines = ["Log Driver:", f" Name:\t\t{driver['Name']}"]
    if driver.get("Options"):
        lines.append(" LogOpts:")
        lines += [f"  {key + ':':<15} {value}" for key, value in sorted(driver["Options"].items())]
    return [*lines, ""]


def _resources(resources: dict[str, Any] | None) -> list[str]:
    if resources is None:
        return []
    lines = ["Resources:"]
    reservations = resources.get("Reservations") or {}
    limits = resources.get("Limits") or {}
    if reservations.get("NanoCPUs") or reservations.get("MemoryBytes"):
        lines += [" Reservations:", *_amounts(reservations)]
    if limits.get("NanoCPUs") or limits.get("MemoryBytes") or limits.get("Pids"):
        lines += [" Limits:", *_amounts(limits)]
        if limits.get("Pids"):
            lines.append(f"  PIDs:\t\t{limits['Pids']}")
    return lines


def _amounts(amounts: dict[str, Any]) -> list[str]:
    lines = []
    if amounts.get("NanoCPUs"):
        lines.append(f"  CPU:\t\t{number(amounts['NanoCPUs'] / _CPU)}")
    if amounts.get("MemoryBytes"):
        lines.append(f"  Memory:\t{binary_size(amounts['MemoryBytes'])}")
    return lines


def _ports(ports: list[dict[str, Any]]) -> list[str]:
    if not ports:
        return []
    lines = ["Ports:"]
    for port in ports:
        lines += [
            f" PublishedPort = {port.get('PublishedPort', 0)}",
            f"  Protocol = {port.get('Protocol', '')}",
            f"  TargetPort = {port.get('TargetPort', 0)}",
            f"  PublishMode = {port.get('PublishMode', '')}",
        ]
    return [*lines[:-1], lines[-1] + " "]


def _health(check: dict[str, Any]) -> list[str]:
    if not check:
        return []
    tests = [f"\t Test = {word}" for word in check.get("Test") or []]
    if tests:
        tests[-1] += " "
    return [
        " Healthcheck:",
        f"  Interval = {duration(check.get('Interval', 0))}",
        f"  Retries = {check.get('Retries', 0)}",
        f"  StartPeriod =\t{duration(check.get('StartPeriod', 0))}",
        f"  Timeout =\t{duration(check.get('Timeout', 0))}",
        "  Tests:",
        *tests,
    ]
