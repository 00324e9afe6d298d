"""Refused specs, with the words and the status that Docker has for them."""

from dataclasses import replace
from typing import Any

import pytest

from common import errors, model
from manager.control import defaults, validation

SECOND = 10**9


def spec(**container: Any) -> model.ServiceSpec:
    fields: dict[str, Any] = {"image": "nginx:latest"} | container
    return model.ServiceSpec(
        name="web",
        task=model.TaskSpec(container=model.ContainerSpec(**fields)),
        mode=model.ServiceMode(replicated=model.ReplicatedMode(replicas=1)),
    )


def with_task(**task: Any) -> model.ServiceSpec:
    base = spec()
    return replace(base, task=replace(base.task, **task))


def limits(**amounts: int) -> model.ServiceSpec:
    return with_task(resources=model.ResourceRequirements(limits=model.Limits(**amounts)))


def constraint(text: str) -> model.ServiceSpec:
    return with_task(placement=model.Placement(constraints=(text,)))


def ports(
    *published: int, mode: model.EndpointMode = model.EndpointMode.VIP, **other: Any
) -> model.ServiceSpec:
    configs = tuple(model.PortConfig(target_port=80, published_port=p, **other) for p in published)
    return replace(spec(), endpoint=model.EndpointSpec(mode=mode, ports=configs))


def in_both_modes(published: int) -> model.ServiceSpec:
    modes = (model.PublishMode.HOST, model.PublishMode.INGRESS)
    configs = tuple(model.PortConfig(target_port=80, published_port=published, publish_mode=m) for m in modes)
    return replace(spec(), endpoint=model.EndpointSpec(ports=configs))


Invalid, Unknown, Unimplemented = "InvalidArgument", "Unknown", "Unimplemented"
REFUSED: list[tuple[model.ServiceSpec, str, str]] = [
    (replace(spec(), name=""), Invalid, "meta: name must be provided"),
    (ports(2377), Invalid, "port '2377/tcp' is the swarm's own: nodes would not reach each other"),
    (
        ports(4789, protocol=model.PortProtocol.UDP),
        Invalid,
        "port '4789/udp' is the swarm's own: nodes would not reach each other",
    ),
    (
        replace(spec(), labels={"shoal.publish.address": "10.0.0.0/8,here"}),
        Invalid,
        "label shoal.publish.address: 'here' does not appear to be an IPv4 or IPv6 network",
    ),
    (
        replace(spec(), labels={"shoal.publish.masquerade": "maybe"}),
        Invalid,
        'label shoal.publish.masquerade is "maybe": it must be true or false',
    ),
    (replace(spec(), name="a b"), Invalid, "name must be valid as a DNS name component"),
    (replace(spec(), name="-web"), Invalid, "name must be valid as a DNS name component"),
    (replace(spec(), name="web_"), Invalid, "name must be valid as a DNS name component"),
    (replace(spec(), name="w" * 64), Invalid, "name must be 63 characters or fewer"),
    (spec(image=""), Invalid, "ContainerSpec: image reference must be provided"),
    (spec(image="Bad Image"), Invalid, 'ContainerSpec: "Bad Image" is not a valid repository/tag'),
    (spec(image="nginx:"), Invalid, 'ContainerSpec: "nginx:" is not a valid repository/tag'),
    (
        spec(hostname="{{.Foo}}"),
        Invalid,
        "expanding hostname failed: template: expansion:1:2: "
        'executing "expansion" at <.Foo>: can\'t evaluate field Foo in type *template.Context',
    ),
    (spec(image="UPPER"), Invalid, 'ContainerSpec: "UPPER" is not a valid repository/tag'),
    (
        spec(mounts=(model.Mount(target="/a"), model.Mount(target="/a"))),
        Invalid,
        "ContainerSpec: duplicate mount point: /a",
    ),
    (
        spec(healthcheck=model.HealthConfig(interval=-1)),
        Invalid,
        "ContainerSpec: Interval in HealthConfig cannot be negative",
    ),
    (limits(memory_bytes=1024), Invalid, "invalid memory value 1024: Must be at least 4MiB"),
    (limits(nano_cpus=1000), Invalid, "invalid cpu value 1e-06: Must be at least 0.001"),
    (
        with_task(restart=model.RestartPolicy(delay=-1)),
        Invalid,
        "TaskSpec: restart-delay cannot be negative",
    ),
    (
        with_task(restart=model.RestartPolicy(window=-1)),
        Invalid,
        "TaskSpec: restart-window cannot be negative",
    ),
    (constraint("node.role"), Unknown, "constraint expected one operator from ==, !="),
    (constraint("node.role=manager"), Unknown, "constraint expected one operator from ==, !="),
    (constraint("a==b==c"), Unknown, "constraint expected one operator from ==, !="),
    (constraint("?x==b"), Unknown, "constraint key '?x' is invalid"),
    (constraint("node.role=="), Unknown, "constraint value '' is invalid"),
    (with_task(container=None), Invalid, "TaskSpec: missing runtime"),
    (
        replace(spec(), update=model.UpdateConfig(delay=-1)),
        Invalid,
        "TaskSpec: update-delay cannot be negative",
    ),
    (
        replace(spec(), rollback=model.UpdateConfig(monitor=-1)),
        Invalid,
        "TaskSpec: rollback-monitor cannot be negative",
    ),
    (
        replace(spec(), update=model.UpdateConfig(max_failure_ratio=1.5)),
        Invalid,
        "TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1",
    ),
    (
        ports(80, mode=model.EndpointMode.DNSRR),
        Invalid,
        "EndpointSpec: port published with ingress mode can't be used with dnsrr mode",
    ),
    (ports(80, 80), Invalid, "EndpointSpec: duplicate published ports provided"),
    (in_both_modes(80), Invalid, "EndpointSpec: duplicate published ports provided"),
    (ports(70000), Invalid, "EndpointSpec: invalid port 80"),
    (
        replace(spec(), mode=model.ServiceMode(global_mode=model.GlobalMode())),
        Unimplemented,
        "services of mode global are not supported yet: use mode replicated",
    ),
    (
        replace(spec(), mode=model.ServiceMode(replicated_job=model.ReplicatedJobMode())),
        Unimplemented,
        "services of mode replicated-job are not supported yet: use mode replicated",
    ),
    (
        replace(spec(), mode=model.ServiceMode(replicated=model.ReplicatedMode(replicas=2**64 - 1))),
        Invalid,
        "Number of replicas must be non-negative",
    ),
    (spec(secrets=(model.SecretReference(),)), Unimplemented, "services with secrets are not supported yet"),
]


@pytest.mark.parametrize(("given", "code", "text"), REFUSED)
def test_refused_services(given: model.ServiceSpec, code: str, text: str) -> None:
    with pytest.raises(errors.ShoalError) as raised:
        validation.service(defaults.stored_service(given))
    assert raised.value.code == code
    assert raised.value.message.startswith(text)


@pytest.mark.parametrize(
    "given",
    [
        spec(),
        limits(memory_bytes=4 << 20, nano_cpus=10**6),
        constraint("node.labels.zone != east"),
        constraint("node.role==manager"),
        ports(80, 81),
        ports(80, mode=model.EndpointMode.DNSRR, publish_mode=model.PublishMode.HOST),
        replace(spec(), name="a-b_c9"),
    ],
)
def test_good_services(given: model.ServiceSpec) -> None:
    validation.service(defaults.stored_service(given))


@pytest.mark.parametrize(
    "image",
    [
        "nginx",
        "nginx:1.25",
        "library/nginx",
        "registry.example:5000/team/app:v1",
        "alpine:latest@sha256:c811f79cf4925e978339294f66bb5d173092b658c887de914c6f3a009c720b8b",
        "localhost/x__y/z-1",
        "Example.com/app",
    ],
)
def test_image_references(image: str) -> None:
    validation.container(model.ContainerSpec(image=image))


def test_the_same_port_may_be_published_by_tcp_and_udp() -> None:
    both = tuple(
        model.PortConfig(target_port=53, published_port=53, protocol=p)
        for p in (model.PortProtocol.TCP, model.PortProtocol.UDP)
    )
    validation.endpoint(model.EndpointSpec(ports=both))


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (model.NetworkSpec(), errors.InvalidArgument, "meta: name must be provided"),
        (model.NetworkSpec(name="bad name"), errors.InvalidArgument, "valid as a DNS name component"),
        (
            model.NetworkSpec(name="n", driver=model.Driver(name="nosuchdriver")),
            errors.NotFound,
            'plugin "nosuchdriver" not found',
        ),
        (
            model.NetworkSpec(name="n", scope="local"),
            errors.PermissionDenied,
            "cannot downgrade network scope for overlay networks",
        ),
        (
            model.NetworkSpec(name="n", ingress=True, driver=model.Driver("overlay", {"encrypted": ""})),
            errors.Unimplemented,
            "encrypted ingress networks are not supported",
        ),
        (
            model.NetworkSpec(
                name="n",
                ipv6_enabled=True,
                driver=model.Driver("overlay", {"com.docker.network.driver.mtu": "1279"}),
            ),
            errors.InvalidArgument,
            "invalid MTU value: 1279: IPv6 needs 1280",
        ),
        (model.NetworkSpec(name="n", ingress=True, attachable=True), errors.InvalidArgument, "attachable"),
        (model.NetworkSpec(name="n", ingress=True, internal=True), errors.InvalidArgument, "internal"),
        (
            model.NetworkSpec(name="n", ipam=model.IPAMOptions(driver=model.Driver(name="dhcp"))),
            errors.NotFound,
            'plugin "dhcp" not found',
        ),
    ],
)
def test_refused_networks(given: model.NetworkSpec, error: type[errors.ShoalError], text: str) -> None:
    with pytest.raises(error, match=text):
        validation.network(given)


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (
            model.ClusterSpec(ca=model.CAConfig(node_cert_expiry=60 * SECOND)),
            errors.InvalidArgument,
            "minimum certificate expiry time is: 1h0m0s",
        ),
        (model.ClusterSpec(name="x"), errors.InvalidArgument, "named 'default'"),
        (
            model.ClusterSpec(ca=model.CAConfig(external_cas=(model.ExternalCA(),))),
            errors.Unimplemented,
            "certificate authorities",
        ),
    ],
)
def test_refused_clusters(given: model.ClusterSpec, error: type[errors.ShoalError], text: str) -> None:
    with pytest.raises(error, match=text):
        validation.cluster(given)


def test_unknown_filters() -> None:
    with pytest.raises(errors.InvalidArgument, match=r"^Invalid filter 'foo'$"):
        validation.filters((model.FilterTerm("foo", "bar"),), ("id", "name"))


# ---- defaults


def test_what_is_stored_of_a_bare_spec() -> None:
    stored = defaults.stored_service(
        model.ServiceSpec(name="x", task=model.TaskSpec(container=model.ContainerSpec(image="alpine")))
    )
    assert stored.task.runtime == "container"
    assert stored.task.container is not None
    assert stored.task.container.isolation == "default"
    assert stored.mode.replicated == model.ReplicatedMode(replicas=1)
    assert stored.update is stored.rollback is stored.endpoint is stored.task.restart is None


def test_words_that_are_filled_in_where_a_part_is_given() -> None:
    given = replace(
        ports(80),
        update=model.UpdateConfig(parallelism=2),
        task=replace(spec().task, restart=model.RestartPolicy()),
    )
    stored = defaults.stored_service(replace(given, endpoint=model.EndpointSpec(ports=given.endpoint.ports)))  # type: ignore[union-attr]
    assert stored.update == model.UpdateConfig(
        parallelism=2, failure_action=model.FailureAction.FAILURE_PAUSE, order=model.UpdateOrder.STOP_FIRST
    )
    assert stored.task.restart == model.RestartPolicy(model.RestartCondition.RESTART_ANY, None, 0, None)
    assert stored.endpoint is not None
    assert stored.endpoint.mode is model.EndpointMode.VIP
    assert stored.endpoint.ports[0] == model.PortConfig(
        "", model.PortProtocol.TCP, 80, 80, model.PublishMode.INGRESS
    )
    assert defaults.stored_service(stored) == stored


def test_what_insert_defaults_shows() -> None:
    shown = defaults.shown_service(defaults.stored_service(spec()))
    assert shown.task.container is not None
    assert shown.task.container.stop_grace_period == 10 * SECOND
    assert shown.task.restart == model.RestartPolicy(model.RestartCondition.RESTART_ANY, 5 * SECOND, 0, None)
    assert shown.update == shown.rollback == defaults.UPDATE
    assert shown.endpoint == model.EndpointSpec(mode=model.EndpointMode.VIP)
    assert shown.task.resources == model.ResourceRequirements(model.Limits(), model.Resources())


def test_a_swarms_settings_are_merged() -> None:
    new = defaults.merged_cluster(model.ClusterSpec())
    assert new == defaults.CLUSTER
    changed = replace(new, dispatcher=model.DispatcherConfig(heartbeat_period=7 * SECOND))
    assert defaults.merged_cluster(model.ClusterSpec(), changed) == changed
    history = model.OrchestrationConfig(task_history_limit=0)
    assert defaults.merged_cluster(model.ClusterSpec(orchestration=history), new).orchestration == history
