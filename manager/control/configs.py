"""Configs in the Control API. Mixed into service.Control."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from common import errors, model
from common.rpc import Caller
from manager.control import config_rules, lookup, validation
from manager.control.base import ControlBase
from manager.store.store import Transaction

_TESTS: Final[Mapping[str, Callable[[model.Config, Sequence[str]], bool]]] = {
    "id": lambda config, values: lookup.begins(config.id, values),
    "name": lambda config, values: lookup.begins(config.spec.name, values),
    "names": lambda config, values: config.spec.name in values,
    "label": lambda config, values: lookup.labelled(config.spec.labels, values),
}


class ConfigMethods(ControlBase):
    """ListConfigs, GetConfig, CreateConfig, UpdateConfig, RemoveConfig."""

    async def list_configs(self, request: model.ListRequest, caller: Caller) -> model.ConfigsReply:
        validation.filters(request.filters, tuple(_TESTS))
        view = await self.read()
        terms = lookup.grouped(request.filters)
        return model.ConfigsReply(tuple(lookup.select(view.configs.all(), terms, _TESTS)))

    async def get_config(self, request: model.GetRequest, caller: Caller) -> model.ConfigReply:
        return model.ConfigReply(lookup.config(await self.read(), request.ref))

    async def create_config(self, request: model.CreateConfigRequest, caller: Caller) -> model.ConfigReply:
        config_rules.config(request.spec)
        config_id = self.new_id()

        def change(tx: Transaction) -> None:
            config_rules.name_free(tx.view, request.spec.name)
            tx.put(model.Config(id=config_id, spec=request.spec))

        await self.store.update(change)
        return model.ConfigReply(lookup.config(self.store.view(), config_id))

    async def update_config(self, request: model.UpdateConfigRequest, caller: Caller) -> model.ConfigReply:
        def change(tx: Transaction) -> str:
            config = lookup.config(tx.view, request.ref)
            if request.spec.name != config.spec.name or request.spec.data not in (b"", config.spec.data):
                raise errors.InvalidArgument("only updates to Labels are allowed")
            tx.expect(config, request.version)
            tx.put(replace(config, spec=replace(config.spec, labels=request.spec.labels)))
            return config.id

        config_id = await self.store.update(change)
        return model.ConfigReply(lookup.config(self.store.view(), config_id))

    async def remove_config(self, request: model.RemoveRequest, caller: Caller) -> model.Nothing:
        def change(tx: Transaction) -> None:
            config = lookup.config(tx.view, request.ref)
            config_rules.removable(tx.view, config)
            tx.remove(config)

        await self.store.update(change)
        return model.Nothing()
