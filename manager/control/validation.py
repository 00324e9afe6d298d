"""What is wrong with a spec by itself, in Docker's words. Pure; used by the control service before it writes.

Each function raises an error of common/errors.py. What depends on other objects is in conflicts.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from common import errors, model, overlays, publishing, templates
from manager.control import config_rules

_NAME: Final = re.compile(r"[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*")
_NAME_LENGTH: Final = 63
MTU_OPTION: Final = "com.docker.network.driver.mtu"
MTUS: Final = range(68, 65536)  # 68 is the least that IPv4 works with
LEAST_MTU6: Final = 1280
_MIN_MEMORY: Final = 4 << 20
_MIN_NANO_CPUS: Final = 10**6
_SECOND: Final = 10**9
MIN_CERT_EXPIRY: Final = 3600 * _SECOND
_MAX_REPLICAS: Final = 2**63 - 1
_CONSTRAINT_KEY: Final = re.compile(r"[a-z_][a-z0-9\-_.]+", re.IGNORECASE)
_CONSTRAINT_VALUE: Final = re.compile(r"[a-z0-9:\-_\s.*()?+\[\]\\^$|/]+", re.IGNORECASE)
# An image reference, as the distribution specification has it: [host[:port]/]path[:tag][@digest].
_HOST: Final = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE: Final = re.compile(
    rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::[\w][\w.-]{{0,127}})?(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{{32,}})?",
    re.ASCII,
)


# What nodes talk to each other by: published, they would lead to a service's tasks instead.
_OUR_OWN: Final = {
    2377: (model.PortProtocol.TCP,),
    7946: (model.PortProtocol.TCP, model.PortProtocol.UDP),
    4789: (model.PortProtocol.UDP,),
    4790: (model.PortProtocol.UDP,),
}


def name(text: str) -> None:
    """A service's or network's name."""
    if not text:
        raise errors.InvalidArgument("meta: name must be provided")
    if not _NAME.fullmatch(text):
        raise errors.InvalidArgument("name must be valid as a DNS name component")
    if len(text) > _NAME_LENGTH:
        raise errors.InvalidArgument(f"name must be {_NAME_LENGTH} characters or fewer")


def service(spec: model.ServiceSpec) -> None:
    """Everything that can be said of a service's spec without the store."""
    name(spec.name)
    task(spec.task)
    mode(spec.mode)
    for prefix, update in (("update", spec.update), ("rollback", spec.rollback)):
        if update is not None:
            _update(prefix, update)
    if spec.endpoint is not None:
        endpoint(spec.endpoint)
    try:
        publishing.addresses(spec.labels)
        publishing.masquerade(spec.labels)
    except ValueError as error:
        raise errors.InvalidArgument(str(error)) from None


def mode(chosen: model.ServiceMode) -> None:
    """The service's mode; those that are not built yet are refused by name."""
    for given, word in (
        (chosen.global_mode, "global"),
        (chosen.replicated_job, "replicated-job"),
        (chosen.global_job, "global-job"),
    ):
        if given is not None:
            raise errors.Unimplemented(f"services of mode {word} are not supported yet: use mode replicated")
    replicas = chosen.replicated.replicas if chosen.replicated is not None else None
    if replicas is not None and replicas > _MAX_REPLICAS:
        raise errors.InvalidArgument("Number of replicas must be non-negative")


def task(spec: model.TaskSpec) -> None:
    """A task template."""
    if spec.resources is not None:
        for given in (spec.resources.limits, spec.resources.reservations):
            if given is not None:
                _amounts(given.nano_cpus, given.memory_bytes)
    if spec.restart is not None:
        _restart(spec.restart)
    if spec.placement is not None:
        for constraint in spec.placement.constraints:
            _constraint(constraint)
    if spec.attachment is not None or spec.container is None:
        raise errors.InvalidArgument("TaskSpec: missing runtime")
    container(spec.container)


def _amounts(nano_cpus: int, memory: int) -> None:
    if nano_cpus and nano_cpus < _MIN_NANO_CPUS:
        wanted, least = nano_cpus / 1e9, _MIN_NANO_CPUS / 1e9
        raise errors.InvalidArgument(f"invalid cpu value {wanted:g}: Must be at least {least:g}")
    if memory and memory < _MIN_MEMORY:
        raise errors.InvalidArgument(f"invalid memory value {memory}: Must be at least 4MiB")


def _restart(policy: model.RestartPolicy) -> None:
    if (policy.delay or 0) < 0:
        raise errors.InvalidArgument("TaskSpec: restart-delay cannot be negative")
    if (policy.window or 0) < 0:
        raise errors.InvalidArgument("TaskSpec: restart-window cannot be negative")


def _constraint(text: str) -> None:
    operator = "==" if "==" in text else "!="
    parts = text.split(operator)
    if len(parts) != 2:
        raise errors.ShoalError("constraint expected one operator from ==, !=")
    key, value = parts[0].strip(), parts[1].strip()
    if not _CONSTRAINT_KEY.fullmatch(key):
        raise errors.ShoalError(f"constraint key '{key}' is invalid")
    if not _CONSTRAINT_VALUE.fullmatch(value):
        raise errors.ShoalError(f"constraint value '{value}' is invalid")


def container(spec: model.ContainerSpec) -> None:
    """The container part of a task template."""
    if not spec.image:
        raise errors.InvalidArgument("ContainerSpec: image reference must be provided")
    if not _IMAGE.fullmatch(spec.image):
        raise errors.InvalidArgument(f'ContainerSpec: "{spec.image}" is not a valid repository/tag')
    targets: set[str] = set()
    for mount in spec.mounts:
        if mount.target in targets:
            raise errors.InvalidArgument(f"ContainerSpec: duplicate mount point: {mount.target}")
        targets.add(mount.target)
    if spec.secrets:
        raise errors.Unimplemented("services with secrets are not supported yet")
    config_rules.service(spec.configs)
    if spec.healthcheck is not None:
        _health(spec.healthcheck)
    templates.check(spec)


def _health(check: model.HealthConfig) -> None:
    for value, word in (
        (check.interval, "Interval"),
        (check.timeout, "Timeout"),
        (check.retries, "Retries"),
        (check.start_period, "StartPeriod"),
    ):
        if value < 0:
            raise errors.InvalidArgument(f"ContainerSpec: {word} in HealthConfig cannot be negative")


def _update(prefix: str, config: model.UpdateConfig) -> None:
    if config.delay < 0:
        raise errors.InvalidArgument(f"TaskSpec: {prefix}-delay cannot be negative")
    if config.monitor < 0:
        raise errors.InvalidArgument(f"TaskSpec: {prefix}-monitor cannot be negative")
    if not 0 <= config.max_failure_ratio <= 1:
        raise errors.InvalidArgument(
            f"TaskSpec: {prefix}-maxfailureratio cannot be less than 0 or bigger than 1"
        )


def endpoint(spec: model.EndpointSpec) -> None:
    """Published ports and resolution mode."""
    dnsrr = spec.mode is model.EndpointMode.DNSRR
    if dnsrr and any(port.publish_mode is not model.PublishMode.HOST for port in spec.ports):
        raise errors.InvalidArgument(
            "EndpointSpec: port published with ingress mode can't be used with dnsrr mode"
        )
    seen: set[tuple[int, int]] = (
        set()
    )  # of both modes: where a task runs, the mesh would take what is the task's own
    for port in spec.ports:
        if not 0 < port.target_port < 65536 or port.published_port > 65535:
            raise errors.InvalidArgument(f"EndpointSpec: invalid port {port.target_port}")
        if not port.published_port:
            continue
        if (protocol := port.protocol or model.PortProtocol.TCP) in _OUR_OWN.get(port.published_port, ()):
            raise errors.InvalidArgument(
                f"port '{port.published_port}/{protocol.name.lower()}' is the swarm's own: nodes would not reach each other"
            )
        key = (port.published_port, port.protocol)
        if key in seen:
            raise errors.InvalidArgument("EndpointSpec: duplicate published ports provided")
        seen.add(key)


def network(spec: model.NetworkSpec) -> None:
    """A network's spec; only overlays exist in a swarm."""
    name(spec.name)
    if spec.scope not in ("", "swarm"):
        raise errors.PermissionDenied("cannot downgrade network scope for overlay networks")
    driver = spec.driver.name if spec.driver is not None else ""
    if driver not in ("", "overlay"):
        raise errors.NotFound(f'plugin "{driver}" not found')
    if spec.ingress and overlays.is_encrypted(spec):
        raise errors.Unimplemented("encrypted ingress networks are not supported")
    if spec.driver is not None:
        _mtu(spec.driver.options.get(MTU_OPTION, ""), spec.ipv6_enabled)
    if spec.ingress and spec.attachable:
        raise errors.InvalidArgument("ingress network cannot be attachable")
    if spec.ingress and spec.internal:
        raise errors.InvalidArgument("ingress network cannot be internal")
    if (
        spec.ipam is not None
        and spec.ipam.driver is not None
        and spec.ipam.driver.name not in ("", "default")
    ):
        raise errors.NotFound(f'plugin "{spec.ipam.driver.name}" not found')


def _mtu(text: str, ipv6: bool) -> None:
    """An MTU that a user asks for."""
    if not text:
        return
    if not text.isdigit():
        raise errors.InvalidArgument(
            f'failed to parse {text}: strconv.Atoi: parsing "{text}": invalid syntax'
        )
    if int(text) not in MTUS:
        raise errors.InvalidArgument(f"invalid MTU value: {text}")
    if ipv6 and int(text) < LEAST_MTU6:
        raise errors.InvalidArgument(f"invalid MTU value: {text}: IPv6 needs {LEAST_MTU6}")


def cluster(spec: model.ClusterSpec) -> None:
    """Settings of the swarm."""
    if spec.name not in ("", "default"):
        raise errors.InvalidArgument("swarm spec must be named 'default'")
    if spec.ca.node_cert_expiry and spec.ca.node_cert_expiry < MIN_CERT_EXPIRY:
        raise errors.InvalidArgument("minimum certificate expiry time is: 1h0m0s")
    if spec.ca.external_cas or spec.ca.signing_ca_cert or spec.ca.signing_ca_key:
        raise errors.Unimplemented("external and own certificate authorities are not supported yet")
    if spec.dispatcher.heartbeat_period < 0:
        raise errors.InvalidArgument("heartbeat time period cannot be a negative duration")


def filters(terms: Iterable[model.FilterTerm], known: Sequence[str]) -> None:
    """Filter keys of a list."""
    for term in terms:
        if term.key not in known:
            raise errors.InvalidArgument(f"Invalid filter '{term.key}'")
