"""The flags that `service create` and `service update` share, and those of each alone."""

from __future__ import annotations

from cli.common_flags import DETACH, QUIET_PROGRESS
from cli.flags import Flag, Kind
from cli.values.attachments import CONFIGS, NETWORKS, SECRETS
from cli.values.basic import (
    ADDRESSES,
    BOOL,
    BYTES,
    COMMAND,
    DECIMAL,
    DOMAINS,
    DURATION,
    ENVIRONMENT,
    FLOAT,
    HOSTS,
    INT,
    LABELS,
    LIST,
    POSITIVE_DURATION,
    PREFERENCES,
    STRING,
    UINT,
    ULIMITS,
)
from cli.values.mounts import MOUNTS
from cli.values.ports import PORTS

_SECOND = 1_000_000_000
_UNITS = "(ns|us|ms|s|m|h)"
_ORDERS = '("start-first", "stop-first")'


def _credential_spec(text: str) -> dict[str, str]:
    for prefix, key in (("config://", "Config"), ("file://", "File"), ("registry://", "Registry")):
        if text.startswith(prefix):
            return {key: text.removeprefix(prefix)}
    if not text:
        return {}
    raise ValueError(
        "invalid credential spec: value must be prefixed with 'config://', 'file://', or 'registry://'"
    )


def _changes(update: bool) -> tuple[Flag, ...]:
    """The flags of both commands; `update` leaves out the defaults, which only a new service gets."""

    def flag(name: str, kind: Kind, usage: str, shown: str, default: object) -> Flag:
        return Flag(name, kind, usage) if update else Flag(name, kind, usage, default=default, shown=shown)

    return (
        flag("endpoint-mode", STRING, "Endpoint mode (vip or dnsrr)", '"vip"', "vip"),
        flag(
            "restart-condition",
            STRING,
            'Restart when condition is met ("none", "on-failure", "any")',
            '"any"',
            "any",
        ),
        flag("restart-delay", DURATION, f"Delay between restart attempts {_UNITS}", "5s", 5 * _SECOND),
        flag("rollback-delay", DURATION, f"Delay between task rollbacks {_UNITS}", "0s", 0),
        flag(
            "rollback-failure-action",
            STRING,
            'Action on rollback failure ("pause", "continue")',
            '"pause"',
            "pause",
        ),
        flag("rollback-max-failure-ratio", FLOAT, "Failure rate to tolerate during a rollback", "0", 0),
        flag(
            "rollback-monitor",
            DURATION,
            f"Duration after each task rollback to monitor for failure {_UNITS}",
            "5s",
            5 * _SECOND,
        ),
        flag("rollback-order", STRING, f"Rollback order {_ORDERS}", '"stop-first"', "stop-first"),
        flag(
            "rollback-parallelism",
            UINT,
            "Maximum number of tasks rolled back simultaneously (0 to roll back all at once)",
            "1",
            1,
        ),
        flag(
            "stop-grace-period",
            DURATION,
            f"Time to wait before force killing a container {_UNITS}",
            "10s",
            10 * _SECOND,
        ),
        flag("update-delay", DURATION, f"Delay between updates {_UNITS}", "0s", 0),
        flag(
            "update-failure-action",
            STRING,
            'Action on update failure ("pause", "continue", "rollback")',
            '"pause"',
            "pause",
        ),
        flag("update-max-failure-ratio", FLOAT, "Failure rate to tolerate during an update", "0", 0),
        flag(
            "update-monitor",
            DURATION,
            f"Duration after each task update to monitor for failure {_UNITS}",
            "5s",
            5 * _SECOND,
        ),
        flag("update-order", STRING, f"Update order {_ORDERS}", '"stop-first"', "stop-first"),
        flag(
            "update-parallelism",
            UINT,
            "Maximum number of tasks updated simultaneously (0 to update all at once)",
            "1",
            1,
        ),
    )


_SHARED = (
    Flag("cap-add", LIST, "Add Linux capabilities"),
    Flag("cap-drop", LIST, "Drop Linux capabilities"),
    Flag(
        "credential-spec",
        Kind("credential-spec", _credential_spec),
        "Credential spec for managed service account (Windows only)",
    ),
    DETACH,
    Flag("entrypoint", COMMAND, "Overwrite the default ENTRYPOINT of the image"),
    Flag("health-cmd", STRING, "Command to run to check health"),
    Flag("health-interval", POSITIVE_DURATION, "Time between running the check (ms|s|m|h)"),
    Flag("health-retries", INT, "Consecutive failures needed to report unhealthy"),
    Flag(
        "health-start-interval",
        POSITIVE_DURATION,
        "Time between running the check during the start period (ms|s|m|h)",
    ),
    Flag(
        "health-start-period",
        POSITIVE_DURATION,
        "Start period for the container to initialize before counting retries towards unstable (ms|s|m|h)",
    ),
    Flag("health-timeout", POSITIVE_DURATION, "Maximum time to allow one check to run (ms|s|m|h)"),
    Flag("hostname", STRING, "Container hostname"),
    Flag(
        "init",
        BOOL,
        "Use an init inside each service container to forward signals and reap processes",
    ),
    Flag("isolation", STRING, "Service container isolation mode"),
    Flag("limit-cpu", DECIMAL, "Limit CPUs"),
    Flag("limit-memory", BYTES, "Limit Memory"),
    Flag("limit-pids", INT, "Limit maximum number of processes (default 0 = unlimited)"),
    Flag("log-driver", STRING, "Logging driver for service"),
    Flag("log-opt", LIST, "Logging driver options"),
    Flag("max-concurrent", UINT, "Number of job tasks to run concurrently (default equal to --replicas)"),
    Flag("no-healthcheck", BOOL, "Disable any container-specified HEALTHCHECK"),
    Flag(
        "no-resolve-image",
        BOOL,
        "Do not query the registry to resolve image digest and supported platforms",
    ),
    Flag("oom-score-adj", INT, "Tune host's OOM preferences (-1000 to 1000)"),
    QUIET_PROGRESS,
    Flag("read-only", BOOL, "Mount the container's root filesystem as read only"),
    Flag("replicas", UINT, "Number of tasks"),
    Flag("replicas-max-per-node", UINT, "Maximum number of tasks per node (default 0 = unlimited)"),
    Flag("reserve-cpu", DECIMAL, "Reserve CPUs"),
    Flag("reserve-memory", BYTES, "Reserve Memory"),
    Flag("restart-max-attempts", UINT, "Maximum number of restarts before giving up"),
    Flag("restart-window", DURATION, f"Window used to evaluate the restart policy {_UNITS}"),
    Flag("stop-signal", STRING, "Signal to stop the container"),
    Flag("tty", BOOL, "Allocate a pseudo-TTY", short="t"),
    Flag("user", STRING, "Username or UID (format: <name|uid>[:<group|gid>])", short="u"),
    Flag("with-registry-auth", BOOL, "Send registry authentication details to swarm agents"),
    Flag("workdir", STRING, "Working directory inside the container", short="w"),
)

CREATE_FLAGS = (
    *_SHARED,
    *_changes(update=False),
    Flag("config", CONFIGS, "Specify configurations to expose to the service"),
    Flag("constraint", LIST, "Placement constraints"),
    Flag("container-label", LABELS, "Container labels"),
    Flag("dns", ADDRESSES, "Set custom DNS servers"),
    Flag("dns-option", LIST, "Set DNS options"),
    Flag("dns-search", DOMAINS, "Set custom DNS search domains"),
    Flag("env", ENVIRONMENT, "Set environment variables", short="e"),
    Flag("env-file", LIST, "Read in a file of environment variables"),
    Flag("generic-resource", LIST, "User defined resources"),
    Flag("group", LIST, "Set one or more supplementary user groups for the container"),
    Flag("host", HOSTS, "Set one or more custom host-to-IP mappings (host:ip)"),
    Flag("label", LABELS, "Service labels", short="l"),
    Flag(
        "mode",
        STRING,
        'Service mode ("replicated", "global", "replicated-job", "global-job")',
        default="replicated",
        shown='"replicated"',
    ),
    Flag("mount", MOUNTS, "Attach a filesystem mount to the service"),
    Flag("name", STRING, "Service name"),
    Flag("network", NETWORKS, "Network attachments"),
    Flag("placement-pref", PREFERENCES, "Add a placement preference"),
    Flag("publish", PORTS, "Publish a port as a node port", short="p"),
    Flag("secret", SECRETS, "Specify secrets to expose to the service"),
    Flag("sysctl", LIST, "Sysctl options"),
    Flag("ulimit", ULIMITS, "Ulimit options", shown="[]"),
)

UPDATE_FLAGS = (
    *_SHARED,
    *_changes(update=True),
    Flag("args", COMMAND, "Service command args"),
    Flag("config-add", CONFIGS, "Add or update a config file on a service"),
    Flag("config-rm", LIST, "Remove a configuration file"),
    Flag("constraint-add", LIST, "Add or update a placement constraint"),
    Flag("constraint-rm", LIST, "Remove a constraint"),
    Flag("container-label-add", LABELS, "Add or update a container label"),
    Flag("container-label-rm", LIST, "Remove a container label by its key"),
    Flag("dns-add", ADDRESSES, "Add or update a custom DNS server"),
    Flag("dns-option-add", LIST, "Add or update a DNS option"),
    Flag("dns-option-rm", LIST, "Remove a DNS option"),
    Flag("dns-rm", LIST, "Remove a custom DNS server"),
    Flag("dns-search-add", DOMAINS, "Add or update a custom DNS search domain"),
    Flag("dns-search-rm", LIST, "Remove a DNS search domain"),
    Flag("env-add", ENVIRONMENT, "Add or update an environment variable"),
    Flag("env-rm", LIST, "Remove an environment variable"),
    Flag("force", BOOL, "Force update even if no changes require it"),
    Flag("generic-resource-add", LIST, "Add a Generic resource"),
    Flag("generic-resource-rm", LIST, "Remove a Generic resource"),
    Flag("group-add", LIST, "Add an additional supplementary user group to the container"),
    Flag("group-rm", LIST, "Remove a previously added supplementary user group from the container"),
    Flag("host-add", HOSTS, 'Add a custom host-to-IP mapping ("host:ip")'),
    Flag("host-rm", LIST, 'Remove a custom host-to-IP mapping ("host:ip")'),
    Flag("image", STRING, "Service image tag"),
    Flag("label-add", LABELS, "Add or update a service label"),
    Flag("label-rm", LIST, "Remove a label by its key"),
    Flag("mount-add", MOUNTS, "Add or update a mount on a service"),
    Flag("mount-rm", LIST, "Remove a mount by its target path"),
    Flag("network-add", NETWORKS, "Add a network"),
    Flag("network-rm", LIST, "Remove a network"),
    Flag("placement-pref-add", PREFERENCES, "Add a placement preference"),
    Flag("placement-pref-rm", PREFERENCES, "Remove a placement preference"),
    Flag("publish-add", PORTS, "Add or update a published port"),
    Flag(
        "publish-rm", Kind("port", PORTS.parse, repeated=True), "Remove a published port by its target port"
    ),
    Flag("rollback", BOOL, "Rollback to previous specification"),
    Flag("secret-add", SECRETS, "Add or update a secret on a service"),
    Flag("secret-rm", LIST, "Remove a secret"),
    Flag("sysctl-add", LIST, "Add or update a Sysctl option"),
    Flag("sysctl-rm", LIST, "Remove a Sysctl option"),
    Flag("ulimit-add", ULIMITS, "Add or update a ulimit option", shown="[]"),
    Flag("ulimit-rm", LIST, "Remove a ulimit option"),
)
