"""From the flags of `service update` to changes of a service's spec. Pure; called by `cli.service.update`.

The spec is the daemon's own JSON, so that what we don't know of stays as it is. What becomes empty is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from cli.errors import CliError
from cli.flags import Values
from cli.service.spec import (
    HEALTH_FIELDS,
    RESTART_FIELDS,
    UPDATE_FIELDS,
    capability,
    generic_resources,
    hosts_line,
    spread,
)
from cli.values.basic import as_map

Spec = dict[str, Any]

_SECOND = 1_000_000_000
_UPDATE_DEFAULTS: Spec = {
    "Parallelism": 1,
    "FailureAction": "pause",
    "Monitor": 5 * _SECOND,
    "MaxFailureRatio": 0,
    "Order": "stop-first",
}
_RESTART_DEFAULTS: Spec = {"Condition": "any", "Delay": 5 * _SECOND, "MaxAttempts": 0}

_CONTAINER_FIELDS = (
    ("args", "Args"),
    ("entrypoint", "Command"),
    ("hostname", "Hostname"),
    ("image", "Image"),
    ("isolation", "Isolation"),
    ("oom-score-adj", "OomScoreAdj"),
    ("read-only", "ReadOnly"),
    ("stop-grace-period", "StopGracePeriod"),
    ("stop-signal", "StopSignal"),
    ("tty", "TTY"),
    ("user", "User"),
    ("workdir", "Dir"),
)


def edit_spec(spec: Spec, flags: Values) -> None:
    """Apply every flag but those that need the daemon: networks, secrets and configs that are added."""
    template = spec.setdefault("TaskTemplate", {})
    container = template.setdefault("ContainerSpec", {})
    for flag, key in _CONTAINER_FIELDS:
        if flags.changed(flag):
            _set(container, key, flags[flag])
    if flags.changed("init"):
        container["Init"] = flags.on("init")
    if flags.changed("credential-spec"):
        container.setdefault("Privileges", {})["CredentialSpec"] = flags["credential-spec"] or None
    _edit_maps(spec, container, flags)
    _edit_lists(container, flags)
    _edit_capabilities(container, flags)
    _edit_health(container, flags)
    _edit_resources(template, flags)
    _edit_placement(template, flags)
    _edit_restart(template, flags)
    if flags.changed("log-driver") or flags.changed("log-opt"):
        _edit_log_driver(template, flags)
    _edit_mode(spec.setdefault("Mode", {}), flags)
    for prefix, key in (("update", "UpdateConfig"), ("rollback", "RollbackConfig")):
        _edit_update(spec, key, prefix, flags)
    _edit_endpoint(spec, flags)
    if flags.on("force"):
        template["ForceUpdate"] = template.get("ForceUpdate", 0) + 1


def _set(target: Spec, key: str, value: Any) -> None:
    if value:
        target[key] = value
    else:
        target.pop(key, None)


def _edit_maps(spec: Spec, container: Spec, flags: Values) -> None:
    labels = spec.get("Labels") or {}
    spec["Labels"] = _merged(labels, flags.every("label-add"), flags.every("label-rm"))
    for prefix, key in (("container-label", "Labels"), ("sysctl", "Sysctls")):
        if flags.changed(f"{prefix}-add", f"{prefix}-rm"):
            merged = _merged(
                container.get(key) or {}, flags.every(f"{prefix}-add"), flags.every(f"{prefix}-rm")
            )
            _set(container, key, merged)


def _merged(existing: dict[str, str], added: list[str], removed: list[str]) -> dict[str, str]:
    merged = {**existing, **as_map(added)}
    return dict(sorted((key, value) for key, value in merged.items() if key not in removed))


def _edit_lists(container: Spec, flags: Values) -> None:
    def edit(name: str, target: Spec, key: str, ident: Callable[[Any], Any], order: bool = True) -> None:
        add, remove = f"{name}-add", f"{name}-rm"
        if flags.changed(add, remove):
            kept = replaced(target.get(key) or [], flags.every(add), flags.every(remove), ident)
            _set(target, key, sorted(kept, key=ident) if order else kept)

    edit("env", container, "Env", lambda line: line.partition("=")[0], order=False)
    edit("group", container, "Groups", str)
    edit("mount", container, "Mounts", lambda mount: mount["Target"], order=False)
    edit("ulimit", container, "Ulimits", lambda limit: limit["Name"])
    resolver = container.setdefault("DNSConfig", {}) or {}
    edit("dns", resolver, "Nameservers", str)
    edit("dns-option", resolver, "Options", str)
    edit("dns-search", resolver, "Search", str)
    container["DNSConfig"] = resolver
    for kind in ("secret", "config"):
        title = kind.title()
        if flags.changed(f"{kind}-rm"):
            removed = flags.every(f"{kind}-rm")
            kept = [item for item in container.get(f"{title}s") or [] if item[f"{title}Name"] not in removed]
            _set(container, f"{title}s", kept)
    _edit_hosts(container, flags)


def replaced(
    existing: list[Any], added: list[Any], removed: Iterable[str], ident: Callable[[Any], Any]
) -> list[Any]:
    """A list without what's removed, and with what's added in place of its namesakes."""
    gone = set(removed)
    new = {ident(item): item for item in added}
    kept = [new.pop(ident(item), item) for item in existing]
    return [item for item in [*kept, *new.values()] if ident(item) not in gone]


def _edit_hosts(container: Spec, flags: Values) -> None:
    if not flags.changed("host-add", "host-rm"):
        return
    gone = [entry.partition(":") for entry in flags.every("host-rm")]
    kept = []
    for line in container.get("Hosts") or []:
        address, _, names = line.partition(" ")
        left = [
            name
            for name in names.split()
            if not any(name == host and (not given or given == address) for host, _, given in gone)
        ]
        if left:
            kept.append(f"{address} {' '.join(left)}")
    new = [hosts_line(entry) for entry in flags.every("host-add")]
    _set(container, "Hosts", kept + [line for line in new if line not in kept])


def _edit_capabilities(container: Spec, flags: Values) -> None:
    if not flags.changed("cap-add", "cap-drop"):
        return
    added = set(container.get("CapabilityAdd") or [])
    dropped = set(container.get("CapabilityDrop") or [])
    new_added = {capability(name) for name in flags.every("cap-add")}
    new_dropped = {capability(name) for name in flags.every("cap-drop")}
    if "RESET" in new_added:
        added, new_added = set(), new_added - {"RESET"}
    if "RESET" in new_dropped:
        dropped, new_dropped = set(), new_dropped - {"RESET"}
    new_dropped -= new_added
    _set(container, "CapabilityAdd", sorted((added - new_dropped) | (new_added - dropped)))
    _set(container, "CapabilityDrop", sorted((dropped - new_added) | (new_dropped - added)))


def _edit_health(container: Spec, flags: Values) -> None:
    names = ["health-cmd", *(flag for flag, _ in HEALTH_FIELDS)]
    if not flags.changed("no-healthcheck", *names):
        return
    if flags.on("no-healthcheck"):
        if flags.changed(*names):
            raise CliError("--no-healthcheck conflicts with --health-* options")
        container["Healthcheck"] = {"Test": ["NONE"]}
        return
    check = container.get("Healthcheck") or {}
    if check.get("Test") == ["NONE"]:
        del check["Test"]
    if flags.changed("health-cmd"):
        command = flags.text("health-cmd")
        _set(check, "Test", ["CMD-SHELL", command] if command else None)
    for flag, key in HEALTH_FIELDS:
        if flags.changed(flag):
            _set(check, key, flags[flag])
    container["Healthcheck"] = check


def _edit_resources(template: Spec, flags: Values) -> None:
    for prefix, key in (("limit", "Limits"), ("reserve", "Reservations")):
        for suffix, field in (("cpu", "NanoCPUs"), ("memory", "MemoryBytes"), ("pids", "Pids")):
            name = f"{prefix}-{suffix}"
            if name != "reserve-pids" and flags.changed(name):
                resources = template.setdefault("Resources", {})
                section = resources.get(key) or {}
                resources[key] = section
                _set(section, field, flags[name])
    if flags.changed("generic-resource-add", "generic-resource-rm"):
        resources = template.setdefault("Resources", {})
        section = resources.get("Reservations") or {}
        resources["Reservations"] = section
        kept = replaced(
            section.get("GenericResources") or [],
            generic_resources(flags.every("generic-resource-add")),
            flags.every("generic-resource-rm"),
            _resource_kind,
        )
        _set(section, "GenericResources", kept)


def _resource_kind(resource: Spec) -> str:
    body = resource.get("DiscreteResourceSpec") or resource.get("NamedResourceSpec") or {}
    return str(body.get("Kind", ""))


def _edit_placement(template: Spec, flags: Values) -> None:
    placement = template.get("Placement") or {}
    if flags.changed("constraint-add", "constraint-rm"):
        kept = replaced(
            placement.get("Constraints") or [],
            flags.every("constraint-add"),
            flags.every("constraint-rm"),
            str,
        )
        _set(placement, "Constraints", sorted(kept))
    if flags.changed("placement-pref-add", "placement-pref-rm"):
        gone = [spread(descriptor) for descriptor in flags.every("placement-pref-rm")]
        kept = [item for item in placement.get("Preferences") or [] if item not in gone]
        kept += [spread(descriptor) for descriptor in flags.every("placement-pref-add")]
        _set(placement, "Preferences", kept)
    if flags.changed("replicas-max-per-node"):
        _set(placement, "MaxReplicas", flags["replicas-max-per-node"])
    template["Placement"] = placement


def _edit_restart(template: Spec, flags: Values) -> None:
    if not flags.changed(*(flag for flag, _ in RESTART_FIELDS)):
        return
    policy = {**_RESTART_DEFAULTS, **(template.get("RestartPolicy") or {})}
    policy.update({key: flags[flag] for flag, key in RESTART_FIELDS if flags.changed(flag)})
    template["RestartPolicy"] = policy


def _edit_log_driver(template: Spec, flags: Values) -> None:
    if flags.changed("log-driver") and not flags.text("log-driver"):
        template.pop("LogDriver", None)
        return
    existing = template.get("LogDriver") or {}
    driver: Spec = {"Name": flags.text("log-driver") or existing.get("Name", "")}
    _set(driver, "Options", as_map(flags.every("log-opt")))
    template["LogDriver"] = driver


def _edit_mode(mode: Spec, flags: Values) -> None:
    if flags.changed("replicas"):
        if mode.get("Replicated") is not None:
            mode["Replicated"]["Replicas"] = flags["replicas"]
        elif mode.get("ReplicatedJob") is not None:
            mode["ReplicatedJob"]["TotalCompletions"] = flags["replicas"]
        else:
            raise CliError("replicas can only be used with replicated or replicated-job mode")
    if flags.changed("max-concurrent"):
        if mode.get("ReplicatedJob") is None:
            raise CliError("max-concurrent can only be used with replicated-job mode")
        mode["ReplicatedJob"]["MaxConcurrent"] = flags["max-concurrent"]


def _edit_update(spec: Spec, key: str, prefix: str, flags: Values) -> None:
    if not flags.changed(*(f"{prefix}-{flag}" for flag, _ in UPDATE_FIELDS)):
        return
    config = dict(spec.get(key) or _UPDATE_DEFAULTS)
    for flag, field in UPDATE_FIELDS:
        name = f"{prefix}-{flag}"
        if flags.changed(name):
            config[field] = flags[name]
    if not config.get("Delay"):
        config.pop("Delay", None)
    spec[key] = config


def _edit_endpoint(spec: Spec, flags: Values) -> None:
    if not flags.changed("endpoint-mode", "publish-add", "publish-rm"):
        return
    endpoint = spec.get("EndpointSpec") or {}
    if flags.changed("endpoint-mode"):
        endpoint["Mode"] = flags.text("endpoint-mode").lower()
    gone = {_where(port) for port in flags.every("publish-rm")}
    kept = [port for port in endpoint.get("Ports") or [] if _where(port) not in gone]
    kept += [port for port in flags.every("publish-add") if port not in kept]
    _set(endpoint, "Ports", sorted(kept, key=lambda port: int(port.get("PublishedPort", 0))))
    spec["EndpointSpec"] = endpoint


def _where(port: Spec) -> tuple[int, str]:
    return int(port["TargetPort"]), str(port.get("Protocol", "tcp"))
