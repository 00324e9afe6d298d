"""From the flags of `service create` to the API's service spec. Pure but for --env-file and the environment.

Networks, secrets and configs are put in by `cli.service.create`, which asks the daemon for their ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli.errors import CliError
from cli.flags import Values
from cli.values.basic import as_map

UPDATE_FIELDS = (
    ("parallelism", "Parallelism"),
    ("delay", "Delay"),
    ("failure-action", "FailureAction"),
    ("monitor", "Monitor"),
    ("max-failure-ratio", "MaxFailureRatio"),
    ("order", "Order"),
)
RESTART_FIELDS = (
    ("restart-condition", "Condition"),
    ("restart-delay", "Delay"),
    ("restart-max-attempts", "MaxAttempts"),
    ("restart-window", "Window"),
)
HEALTH_FIELDS = (
    ("health-interval", "Interval"),
    ("health-timeout", "Timeout"),
    ("health-start-period", "StartPeriod"),
    ("health-start-interval", "StartInterval"),
    ("health-retries", "Retries"),
)


def service_spec(
    flags: Values, image: str, arguments: list[str], environment: Mapping[str, str]
) -> dict[str, Any]:
    spec: dict[str, Any] = {}
    if flags.text("name"):
        spec["Name"] = flags.text("name")
    spec["Labels"] = as_map(flags.every("label"))
    template: dict[str, Any] = {
        "ContainerSpec": _container(flags, image, arguments, environment),
        "Resources": _resources(flags),
    }
    if flags.changed(*(flag for flag, _ in RESTART_FIELDS)):
        template["RestartPolicy"] = _restart(flags)
    template["Placement"] = _placement(flags)
    if flags.text("log-driver"):
        template["LogDriver"] = _drop_empty(
            {"Name": flags.text("log-driver"), "Options": as_map(flags.every("log-opt"))}
        )
    template["ForceUpdate"] = 0
    spec["TaskTemplate"] = template
    spec["Mode"] = _mode(flags)
    for prefix, key in (("update", "UpdateConfig"), ("rollback", "RollbackConfig")):
        if flags.changed(*(f"{prefix}-{flag}" for flag, _ in UPDATE_FIELDS)):
            spec[key] = {
                name: flags[f"{prefix}-{flag}"]
                for flag, name in UPDATE_FIELDS
                if name != "Delay" or flags[f"{prefix}-{flag}"]
            }
    spec["EndpointSpec"] = _drop_empty(
        {"Mode": flags.text("endpoint-mode").lower(), "Ports": flags.every("publish")}
    )
    return spec


def _container(
    flags: Values, image: str, arguments: list[str], environment: Mapping[str, str]
) -> dict[str, Any]:
    added, dropped = capabilities(flags.every("cap-add"), flags.every("cap-drop"))
    container = _drop_empty(
        {
            "Image": image,
            "Labels": as_map(flags.every("container-label")),
            "Command": flags["entrypoint"],
            "Args": arguments,
            "Hostname": flags.text("hostname"),
            "Env": variables(flags.every("env-file"), flags.every("env"), environment),
            "Dir": flags.text("workdir"),
            "User": flags.text("user"),
            "Groups": flags.every("group"),
            "Privileges": _privileges(flags),
            "StopSignal": flags.text("stop-signal"),
            "TTY": flags.on("tty"),
            "ReadOnly": flags.on("read-only"),
            "Mounts": flags.every("mount"),
            "Healthcheck": health(flags),
            "Hosts": [hosts_line(entry) for entry in flags.every("host")],
            "Isolation": flags.text("isolation"),
            "Sysctls": as_map(flags.every("sysctl")),
            "CapabilityAdd": added,
            "CapabilityDrop": dropped,
            "Ulimits": sorted(flags.every("ulimit"), key=lambda limit: limit["Name"]),
            "OomScoreAdj": flags["oom-score-adj"],
        }
    )
    container.setdefault("Image", image)
    container["Init"] = flags.on("init")
    container["DNSConfig"] = _drop_empty(
        {
            "Nameservers": flags.every("dns"),
            "Search": flags.every("dns-search"),
            "Options": flags.every("dns-option"),
        }
    )
    if flags.changed("stop-grace-period"):
        container["StopGracePeriod"] = flags["stop-grace-period"]
    return container


def _drop_empty(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value}


def _privileges(flags: Values) -> dict[str, Any]:
    given = flags["credential-spec"]
    return {"CredentialSpec": given} if given else {}


def _resources(flags: Values) -> dict[str, Any]:
    limits = {
        "NanoCPUs": flags["limit-cpu"],
        "MemoryBytes": flags["limit-memory"],
        "Pids": flags["limit-pids"],
    }
    reservations = {
        "NanoCPUs": flags["reserve-cpu"],
        "MemoryBytes": flags["reserve-memory"],
        "GenericResources": generic_resources(flags.every("generic-resource")),
    }
    return {"Limits": _drop_empty(limits), "Reservations": _drop_empty(reservations)}


def generic_resources(values: list[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for value in values:
        kind, equals, amount = value.partition("=")
        if not equals or not kind or not amount:
            raise CliError(f"invalid generic-resource {value}: expected <kind>=<amount or name>")
        if amount.isdigit():
            found.append({"DiscreteResourceSpec": {"Kind": kind, "Value": int(amount)}})
        else:
            found.append({"NamedResourceSpec": {"Kind": kind, "Value": amount}})
    return found


def _restart(flags: Values) -> dict[str, Any]:
    policy = {
        "Condition": flags.text("restart-condition"),
        "Delay": flags["restart-delay"],
        "MaxAttempts": flags["restart-max-attempts"] or 0,
    }
    if flags.changed("restart-window"):
        policy["Window"] = flags["restart-window"]
    return policy


def _placement(flags: Values) -> dict[str, Any]:
    return _drop_empty(
        {
            "Constraints": flags.every("constraint"),
            "Preferences": [spread(descriptor) for descriptor in flags.every("placement-pref")],
            "MaxReplicas": flags["replicas-max-per-node"],
        }
    )


def spread(descriptor: str) -> dict[str, Any]:
    return {"Spread": {"SpreadDescriptor": descriptor}}


def _mode(flags: Values) -> dict[str, Any]:
    mode = flags.text("mode")
    replicas = {"Replicas": flags["replicas"]} if flags.changed("replicas") else {}
    if mode in ("global", "global-job"):
        if flags.changed("replicas"):
            raise CliError("replicas can only be used with replicated or replicated-job mode")
        if flags["replicas-max-per-node"]:
            raise CliError("replicas-max-per-node can only be used with replicated or replicated-job mode")
        if flags.changed("max-concurrent"):
            raise CliError("max-concurrent can only be used with replicated-job mode")
        return {"Global": {}} if mode == "global" else {"GlobalJob": {}}
    if mode == "replicated":
        if flags.changed("max-concurrent"):
            raise CliError("max-concurrent can only be used with replicated-job mode")
        return {"Replicated": replicas}
    if mode == "replicated-job":
        if not flags.changed("replicas") and not flags.changed("max-concurrent"):
            return {"ReplicatedJob": {}}
        job: dict[str, Any] = {}
        concurrent = flags["max-concurrent"] if flags.changed("max-concurrent") else flags["replicas"]
        job["MaxConcurrent"] = concurrent
        if flags.changed("replicas"):
            job["TotalCompletions"] = flags["replicas"]
        return {"ReplicatedJob": job}
    raise CliError(f"Unknown mode: {mode}, only replicated and global supported")


def health(flags: Values) -> dict[str, Any] | None:
    settings = {name: flags[flag] for flag, name in HEALTH_FIELDS if flags[flag]}
    command = flags.text("health-cmd")
    if flags.on("no-healthcheck"):
        if settings or command:
            raise CliError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if not settings and not command:
        return None
    return {"Test": ["CMD-SHELL", command], **settings} if command else settings


def hosts_line(entry: str) -> str:
    """`name:address` as a line of /etc/hosts."""
    name, _, address = entry.partition(":")
    return f"{address} {name}"


def variables(files: list[str], given: list[str], environment: Mapping[str, str]) -> list[str]:
    """KEY=value lines: the files' first, a later one of the same name in place of an earlier."""
    found: list[str] = []
    for line in [*(line for path in files for line in _file_lines(path)), *given]:
        name, equals, _ = line.partition("=")
        if not equals and name in environment:
            line = f"{name}={environment[name]}"
        elif not equals and line not in given:
            continue  # a bare name in a file means "take it from the environment, if it's there"
        found = [kept for kept in found if kept.partition("=")[0] != name]
        found.append(line)
    return found


def _file_lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().removeprefix("\ufeff").splitlines()
    except FileNotFoundError:
        raise CliError(f"open {path}: no such file or directory") from None
    except OSError as error:
        raise CliError(f"open {path}: {(error.strerror or 'failed').lower()}") from None
    except UnicodeDecodeError:
        raise CliError(f"{path}: not a text file in UTF-8") from None
    found = []
    for line in lines:
        text = line.lstrip()
        if not text or text.startswith("#"):
            continue
        name = text.partition("=")[0]
        if any(letter.isspace() for letter in name):
            raise CliError(f"variable '{name}' contains whitespaces")
        if not name:
            raise CliError(f"no variable name on line '{text}'")
        found.append(text)
    return found


def capabilities(add: list[str], drop: list[str]) -> tuple[list[str], list[str]]:
    """Names in full and sorted; what is both added and dropped is added."""
    added = {capability(name) for name in add}
    dropped = {capability(name) for name in drop}
    if "ALL" in added:
        return ["ALL"], sorted(dropped - {"ALL"})
    if "ALL" in dropped:
        dropped = {"ALL"}
    return sorted(added), sorted(dropped - added)


def capability(name: str) -> str:
    upper = name.strip().upper()
    return upper if upper in ("ALL", "RESET") or upper.startswith("CAP_") else f"CAP_{upper}"
