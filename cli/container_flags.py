"""The flags of `shoal run`, `create` and `start`. What the daemon has no use for yet it refuses by name itself."""

from __future__ import annotations

from cli.flags import Flag
from cli.values.attachments import CONTAINER_NETWORKS
from cli.values.basic import (
    ADDRESSES,
    BOOL,
    BYTES,
    DECIMAL,
    DOMAINS,
    ENVIRONMENT,
    HOSTS,
    INT,
    LABELS,
    LINKS,
    LIST,
    STRING,
    SWAP,
    ULIMITS,
)
from cli.values.mounts import MOUNTS

DETACH_KEYS = Flag("detach-keys", STRING, "Override the key sequence for detaching a container")
SIG_PROXY = Flag("sig-proxy", BOOL, "Proxy received signals to the process", default=True, shown="true")

_SHARED = (
    Flag("add-host", HOSTS, "Add a custom host-to-IP mapping (host:ip)"),
    Flag("attach", LIST, "Attach to STDIN, STDOUT or STDERR", short="a"),
    Flag("cap-add", LIST, "Add Linux capabilities"),
    Flag("cap-drop", LIST, "Drop Linux capabilities"),
    Flag("cgroup-parent", STRING, "Optional parent cgroup for the container"),
    Flag("cgroupns", STRING, "Cgroup namespace to use (host|private)"),
    Flag("cidfile", STRING, "Write the container ID to the file"),
    Flag("cpu-period", INT, "Limit CPU CFS (Completely Fair Scheduler) period"),
    Flag("cpu-quota", INT, "Limit CPU CFS (Completely Fair Scheduler) quota"),
    Flag("cpu-shares", INT, "CPU shares (relative weight)", short="c"),
    Flag("cpus", DECIMAL, "Number of CPUs"),
    Flag("cpuset-cpus", STRING, "CPUs in which to allow execution (0-3, 0,1)"),
    Flag("cpuset-mems", STRING, "MEMs in which to allow execution (0-3, 0,1)"),
    Flag("device", LIST, "Add a host device to the container"),
    Flag("dns", ADDRESSES, "Set custom DNS servers"),
    Flag("dns-option", LIST, "Set DNS options"),
    Flag("dns-search", DOMAINS, "Set custom DNS search domains"),
    Flag("domainname", STRING, "Container NIS domain name"),
    Flag("entrypoint", STRING, "Overwrite the default ENTRYPOINT of the image"),
    Flag("env", ENVIRONMENT, "Set environment variables", short="e"),
    Flag("env-file", LIST, "Read in a file of environment variables"),
    Flag("expose", LIST, "Expose a port or a range of ports"),
    Flag("group-add", LIST, "Add additional groups to join"),
    Flag("health-cmd", STRING, "Command to run to check health"),
    Flag("hostname", STRING, "Container host name", short="h"),
    Flag(
        "init", BOOL, "Run an init inside the container that forwards signals and reaps processes"
    ),
    Flag("interactive", BOOL, "Keep STDIN open even if not attached", short="i"),
    Flag("ip", STRING, "IPv4 address (e.g., 172.30.100.104)"),
    Flag("ip6", STRING, "IPv6 address (e.g., 2001:db8::33)"),
    Flag("ipc", STRING, "IPC mode to use"),
    Flag("label", LABELS, "Set meta data on a container", short="l"),
    Flag("link", LINKS, "Add link to another container"),
    Flag("link-local-ip", LIST, "Container IPv4/IPv6 link-local addresses"),
    Flag("log-driver", STRING, "Logging driver for the container"),
    Flag("log-opt", LIST, "Log driver options"),
    Flag("mac-address", STRING, "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    Flag("memory", BYTES, "Memory limit", short="m"),
    Flag("memory-reservation", BYTES, "Memory soft limit"),
    Flag(
        "memory-swap", SWAP, "Swap limit equal to memory plus swap: '-1' to enable unlimited swap"
    ),
    Flag("memory-swappiness", INT, "Tune container memory swappiness (0 to 100)", default=-1, shown="-1"),
    Flag("mount", MOUNTS, "Attach a filesystem mount to the container"),
    Flag("name", STRING, "Assign a name to the container"),
    Flag("network", CONTAINER_NETWORKS, "Connect a container to a network"),
    Flag("network-alias", LIST, "Add network-scoped alias for the container"),
    Flag("no-healthcheck", BOOL, "Disable any container-specified HEALTHCHECK"),
    Flag("oom-kill-disable", BOOL, "Disable OOM Killer"),
    Flag("oom-score-adj", INT, "Tune host's OOM preferences (-1000 to 1000)"),
    Flag("pid", STRING, "PID namespace to use"),
    Flag("pids-limit", INT, "Tune container pids limit (set -1 for unlimited)"),
    Flag("platform", STRING, "Set platform if server is multi-platform capable"),
    Flag("privileged", BOOL, "Give extended privileges to this container"),
    Flag("publish", LIST, "Publish a container's port(s) to the host", short="p"),
    Flag("publish-all", BOOL, "Publish all exposed ports to random ports", short="P"),
    Flag(
        "pull", STRING, 'Pull image before running ("always", "missing", "never")', default="missing", shown='"missing"'
    ),
    Flag("quiet", BOOL, "Suppress the pull output", short="q"),
    Flag("read-only", BOOL, "Mount the container's root filesystem as read only"),
    Flag("restart", STRING, "Restart policy to apply when a container exits", default="no", shown='"no"'),
    Flag("rm", BOOL, "Automatically remove the container and its associated anonymous volumes when it exits"),
    Flag("runtime", STRING, "Runtime to use for this container"),
    Flag("security-opt", LIST, "Security Options"),
    Flag("shm-size", BYTES, "Size of /dev/shm"),
    Flag("stop-signal", STRING, "Signal to stop the container"),
    Flag("stop-timeout", INT, "Timeout (in seconds) to stop a container"),
    Flag("sysctl", LABELS, "Sysctl options"),
    Flag("tmpfs", LIST, "Mount a tmpfs directory"),
    Flag("tty", BOOL, "Allocate a pseudo-TTY", short="t"),
    Flag("ulimit", ULIMITS, "Ulimit options"),
    Flag("user", STRING, "Username or UID (format: <name|uid>[:<group|gid>])", short="u"),
    Flag("userns", STRING, "User namespace to use"),
    Flag("uts", STRING, "UTS namespace to use"),
    Flag("volume", LIST, "Bind mount a volume", short="v"),
    Flag("volumes-from", LIST, "Mount volumes from the specified container(s)"),
    Flag("workdir", STRING, "Working directory inside the container", short="w"),
)  # fmt: skip
RUN = tuple(
    sorted(
        (
            *_SHARED,
            Flag("detach", BOOL, "Run container in background and print container ID", short="d"),
            DETACH_KEYS,
            SIG_PROXY,
        ),
        key=lambda flag: flag.name,
    )
)
CREATE = _SHARED
START = (
    Flag("attach", BOOL, "Attach STDOUT/STDERR and forward signals", short="a"),
    DETACH_KEYS,
    Flag("interactive", BOOL, "Attach container's STDIN", short="i"),
    SIG_PROXY,
)
