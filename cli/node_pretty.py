"""`node inspect --pretty`. Pure; called by `cli.node`."""

from __future__ import annotations

from typing import Any

from cli.output.units import binary_size, go_time


def pretty(node: dict[str, Any]) -> str:
    spec = node.get("Spec") or {}
    description = node.get("Description") or {}
    status = node.get("Status") or {}
    lines = [f"ID:\t\t\t{node['ID']}"]
    if spec.get("Name"):
        lines.append(f"Name:\t\t\t{spec['Name']}")
    if spec.get("Labels"):
        lines.append("Labels:")
        lines += [f" - {key}={value}" for key, value in sorted(spec["Labels"].items())]
    lines += [
        f"Hostname:              \t{description.get('Hostname', '')}",
        f"Joined at:             \t{go_time(node.get('CreatedAt', '')).lower()}",
        "Status:",
        f" State:\t\t\t{str(status.get('State', '')).title()}",
    ]
    if status.get("Message"):
        message = status["Message"]
        lines.append(f" Message:              \t{message[:1].upper()}{message[1:]}")
    lines.append(f" Availability:         \t{str(spec.get('Availability', '')).title()}")
    if status.get("Addr"):
        lines.append(f" Address:\t\t{status['Addr']}")
    manager = node.get("ManagerStatus")
    if manager:
        lines += [
            "Manager Status:",
            f" Address:\t\t{manager.get('Addr', '')}",
            f" Raft Status:\t\t{str(manager.get('Reachability', '')).title()}",
            f" Leader:\t\t{'Yes' if manager.get('Leader') else 'No'}",
        ]
    platform = description.get("Platform") or {}
    resources = description.get("Resources") or {}
    lines += [
        "Platform:",
        f" Operating System:\t{platform.get('OS', '')}",
        f" Architecture:\t\t{platform.get('Architecture', '')}",
        "Resources:",
        f" CPUs:\t\t\t{resources.get('NanoCPUs', 0) // 1_000_000_000}",
        f" Memory:\t\t{binary_size(resources.get('MemoryBytes', 0))}",
    ]
    engine = description.get("Engine") or {}
    lines += _plugins(engine.get("Plugins") or [])
    lines.append(f"Engine Version:\t\t{engine.get('EngineVersion', '')}")
    if engine.get("Labels"):
        lines.append("Engine Labels:")
        lines += [f" - {key}={value}" for key, value in sorted(engine["Labels"].items())]
    tls = description.get("TLSInfo") or {}
    if tls.get("TrustRoot"):
        lines += [
            "TLS Info:",
            " TrustRoot:",
            tls["TrustRoot"],
            f" Issuer Subject:\t{tls.get('CertIssuerSubject', '')}",
            f" Issuer Public Key:\t{tls.get('CertIssuerPublicKey', '')}",
        ]
    return "\n".join(lines) + "\n"


def _plugins(plugins: list[dict[str, str]]) -> list[str]:
    if not plugins:
        return []
    by_type: dict[str, list[str]] = {}
    for plugin in plugins:
        by_type.setdefault(plugin["Type"], []).append(plugin["Name"])
    return ["Plugins:"] + [f" {kind}:\t\t{', '.join(names)}" for kind, names in sorted(by_type.items())]
