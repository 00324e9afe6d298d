"""Services in the Control API. Mixed into service.Control."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from common import errors, model
from common.rpc import Caller
from manager.control import config_rules, conflicts, defaults, lookup, predefined, validation
from manager.control.base import ControlBase
from manager.store.store import Transaction
from manager.store.view import THIS_INDEX, ReadView


def _mode(service: model.Service) -> str:
    mode = service.spec.mode
    if mode.global_mode is not None:
        return "global"
    if mode.replicated_job is not None:
        return "replicated-job"
    return "global-job" if mode.global_job is not None else "replicated"


_TESTS: Final[Mapping[str, Callable[[model.Service, Sequence[str]], bool]]] = {
    "id": lambda service, values: lookup.begins(service.id, values),
    "name": lambda service, values: lookup.begins(service.spec.name, values),
    "label": lambda service, values: lookup.labelled(service.spec.labels, values),
    "mode": lambda service, values: _mode(service) in values,
    "runtime": lambda service, values: (service.spec.task.runtime or "container") in values,
}


class ServiceMethods(ControlBase):
    """ListServices, GetService, CreateService, UpdateService, RemoveService."""

    async def list_services(self, request: model.ListRequest, caller: Caller) -> model.ServicesReply:
        validation.filters(request.filters, tuple(_TESTS))
        view = await self.read()
        found = lookup.select(view.services.all(), lookup.grouped(request.filters), _TESTS)
        if request.status:
            found = [replace(service, status=status_of(view, service)) for service in found]
        return model.ServicesReply(tuple(found))

    async def get_service(self, request: model.GetRequest, caller: Caller) -> model.ServiceReply:
        service = lookup.service(await self.read(), request.ref)
        if request.insert_defaults:
            service = replace(service, spec=defaults.shown_service(service.spec))
        return model.ServiceReply(service)

    async def create_service(self, request: model.CreateServiceRequest, caller: Caller) -> model.ServiceReply:
        spec = defaults.stored_service(request.spec)
        validation.service(spec)
        service_id = self.new_id()

        def change(tx: Transaction) -> None:
            conflicts.ports_free(tx.view, spec, service_id)
            predefined.ensure(tx, spec, self.new_id)
            resolved = conflicts.service_networks(tx.view, spec)
            predefined.check(tx.view, resolved)
            config_rules.present(tx.view, spec)
            conflicts.ingress_present(tx.view, resolved)
            conflicts.service_name_free(tx.view, spec.name)
            tx.put(model.Service(id=service_id, spec=resolved, spec_version=THIS_INDEX))

        await self.store.update(change)
        return model.ServiceReply(lookup.service(self.store.view(), service_id))

    async def update_service(self, request: model.UpdateServiceRequest, caller: Caller) -> model.ServiceReply:
        spec = defaults.stored_service(request.spec)
        if not request.rollback:
            validation.service(spec)
        now = self.clock.now_ns()

        def change(tx: Transaction) -> str:
            service = lookup.service(tx.view, request.ref)
            tx.expect(service, request.version)
            if request.rollback:
                restored = rolled_back(service, now)
                config_rules.present(tx.view, restored.spec)
                tx.put(restored)
                return service.id
            predefined.ensure(tx, spec, self.new_id)
            resolved = conflicts.service_networks(
                tx.view, _with_auth(service, spec, request.auth_from_previous)
            )
            predefined.check(tx.view, resolved)
            config_rules.present(tx.view, spec)
            _same_kind(service, resolved)
            conflicts.ports_free(tx.view, resolved, service.id)
            conflicts.ingress_present(tx.view, resolved)
            tx.put(updated(service, resolved))
            return service.id

        service_id = await self.store.update(change)
        return model.ServiceReply(lookup.service(self.store.view(), service_id))

    async def remove_service(self, request: model.RemoveRequest, caller: Caller) -> model.Nothing:
        def change(tx: Transaction) -> None:
            tx.remove(lookup.service(tx.view, request.ref))

        await self.store.update(change)
        return model.Nothing()


def _same_kind(service: model.Service, spec: model.ServiceSpec) -> None:
    if spec.name != service.spec.name:
        raise errors.Unimplemented("renaming services is not supported")
    if _mode(replace(service, spec=spec)) != _mode(service):
        raise errors.Unimplemented("service mode change is not allowed")


def _with_auth(service: model.Service, spec: model.ServiceSpec, from_previous: bool) -> model.ServiceSpec:
    """A request without registry credentials keeps those that the service has."""
    source = service.previous_spec if from_previous and service.previous_spec is not None else service.spec
    container, kept = spec.task.container, source.task.container
    if container is None or container.pull_auth or kept is None:
        return spec
    return replace(spec, task=replace(spec.task, container=replace(container, pull_auth=kept.pull_auth)))


def updated(service: model.Service, spec: model.ServiceSpec) -> model.Service:
    """The service with another spec. Its spec version moves only when its tasks must be made anew."""
    changed = (spec.task, spec.endpoint) != (service.spec.task, service.spec.endpoint)
    return replace(
        service,
        spec=spec,
        spec_version=THIS_INDEX if changed else service.spec_version,
        previous_spec=service.spec,
        previous_spec_version=service.spec_version,
        update_status=None,
    )


def rolled_back(service: model.Service, now_ns: int) -> model.Service:
    """The service with its previous spec, by the user's wish; raises when it has none."""
    if service.previous_spec is None:
        raise errors.FailedPrecondition(f"service {service.id} does not have a previous spec")
    status = model.UpdateStatus(
        state=model.UpdateState.UPDATE_ROLLBACK_STARTED,
        started_at=now_ns,
        message="manually requested rollback",
    )
    return replace(
        service,
        spec=service.previous_spec,
        spec_version=service.previous_spec_version,
        previous_spec=service.spec,
        previous_spec_version=service.spec_version,
        update_status=status,
    )


def status_of(view: ReadView, service: model.Service) -> model.ServiceStatus:
    """How many tasks run and how many should, for lists."""
    tasks = view.tasks.by_service(service.id)
    running = model.TaskState.TASK_RUNNING
    alive = sum(1 for t in tasks if t.status.state is running and t.desired_state <= running)
    replicated = service.spec.mode.replicated
    if replicated is not None:
        desired = replicated.replicas or 0
    else:
        desired = sum(1 for t in tasks if t.desired_state is running)
    completed = sum(1 for t in tasks if t.status.state is model.TaskState.TASK_COMPLETE)
    return model.ServiceStatus(alive, desired, completed if service.job_status is not None else 0)
