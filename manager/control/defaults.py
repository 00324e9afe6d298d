"""What Docker fills in: at creation (always stored), for `insertDefaults` answers, and for a new swarm. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from common import model

_SECOND: Final = 10**9

UPDATE: Final = model.UpdateConfig(
    parallelism=1,
    failure_action=model.FailureAction.FAILURE_PAUSE,
    monitor=5 * _SECOND,
    order=model.UpdateOrder.STOP_FIRST,
)
CLUSTER: Final = model.ClusterSpec(
    name="default",
    orchestration=model.OrchestrationConfig(task_history_limit=5),
    raft=model.RaftConfig(
        snapshot_interval=10_000,
        keep_old_snapshots=0,
        log_entries_for_slow_followers=500,
        election_tick=10,
        heartbeat_tick=1,
    ),
    dispatcher=model.DispatcherConfig(heartbeat_period=2 * _SECOND),
    ca=model.CAConfig(node_cert_expiry=2160 * 3600 * _SECOND),
)
DATA_PATH_PORT: Final = 4789
ADDRESS_POOL: Final = "10.0.0.0/8"
SUBNET_SIZE: Final = 24


def stored_service(spec: model.ServiceSpec) -> model.ServiceSpec:
    """A service's spec as it is kept: the words that Docker's conversion puts in where none were given."""
    task = spec.task
    if task.container is not None:
        container = task.container
        if not container.isolation:
            container = replace(container, isolation="default")
        task = replace(task, container=container, runtime=task.runtime or "container")
    if task.restart is not None:
        task = replace(task, restart=_restart(task.restart))
    if spec.networks and not task.networks:
        task = replace(task, networks=spec.networks)
    return replace(
        spec,
        task=task,
        networks=(),
        mode=_mode(spec.mode),
        update=_update(spec.update),
        rollback=_update(spec.rollback),
        endpoint=_endpoint(spec.endpoint),
    )


def _restart(policy: model.RestartPolicy) -> model.RestartPolicy:
    condition = policy.condition or model.RestartCondition.RESTART_ANY
    return replace(policy, condition=condition, max_attempts=policy.max_attempts or 0)


def _mode(mode: model.ServiceMode) -> model.ServiceMode:
    if mode.global_mode or mode.replicated_job or mode.global_job:
        return mode
    if mode.replicated is not None and mode.replicated.replicas is not None:
        return mode
    return model.ServiceMode(replicated=model.ReplicatedMode(replicas=1))


def _update(config: model.UpdateConfig | None) -> model.UpdateConfig | None:
    if config is None:
        return None
    return replace(
        config,
        failure_action=config.failure_action or model.FailureAction.FAILURE_PAUSE,
        order=config.order or model.UpdateOrder.STOP_FIRST,
    )


def _endpoint(spec: model.EndpointSpec | None) -> model.EndpointSpec | None:
    if spec is None:
        return None
    ports = tuple(
        replace(
            port,
            protocol=port.protocol or model.PortProtocol.TCP,
            publish_mode=port.publish_mode or model.PublishMode.INGRESS,
        )
        for port in spec.ports
    )
    return replace(spec, mode=spec.mode or model.EndpointMode.VIP, ports=ports)


def shown_service(spec: model.ServiceSpec) -> model.ServiceSpec:
    """A service's spec with every default filled in, for `inspect`."""
    task = spec.task
    container = task.container
    if container is not None:
        grace = container.stop_grace_period
        container = replace(
            container,
            stop_grace_period=10 * _SECOND if grace is None else grace,
            dns_config=container.dns_config or model.DNSConfig(),
        )
    resources = task.resources or model.ResourceRequirements()
    task = replace(
        task,
        container=container,
        resources=replace(
            resources,
            limits=resources.limits or model.Limits(),
            reservations=resources.reservations or model.Resources(),
        ),
        restart=shown_restart(task.restart),
        placement=task.placement or model.Placement(),
    )
    return replace(
        spec,
        task=task,
        update=_shown_update(spec.update),
        rollback=_shown_update(spec.rollback),
        endpoint=spec.endpoint or model.EndpointSpec(mode=model.EndpointMode.VIP),
    )


def shown_restart(policy: model.RestartPolicy | None) -> model.RestartPolicy:
    """A restart policy with Docker's defaults."""
    given = policy or model.RestartPolicy()
    return replace(
        given,
        condition=given.condition or model.RestartCondition.RESTART_ANY,
        delay=5 * _SECOND if given.delay is None else given.delay,
        max_attempts=given.max_attempts or 0,
    )


def _shown_update(config: model.UpdateConfig | None) -> model.UpdateConfig:
    if config is None:
        return UPDATE
    return replace(config, monitor=config.monitor or UPDATE.monitor)


def merged_cluster(spec: model.ClusterSpec, base: model.ClusterSpec = CLUSTER) -> model.ClusterSpec:
    """The settings of a swarm: what a request leaves empty stays as in `base` (Docker's defaults for a new one)."""
    history = spec.orchestration.task_history_limit
    raft = base.raft
    for field in ("snapshot_interval", "log_entries_for_slow_followers", "election_tick", "heartbeat_tick"):
        raft = replace(raft, **{field: getattr(spec.raft, field) or getattr(raft, field)})
    if spec.raft.keep_old_snapshots is not None:
        raft = replace(raft, keep_old_snapshots=spec.raft.keep_old_snapshots)
    return replace(
        spec,
        name="default",
        orchestration=base.orchestration if history is None else spec.orchestration,
        raft=raft,
        dispatcher=spec.dispatcher if spec.dispatcher.heartbeat_period else base.dispatcher,
        ca=replace(spec.ca, node_cert_expiry=spec.ca.node_cert_expiry or base.ca.node_cert_expiry),
    )
