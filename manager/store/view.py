"""What pure code reads: tables of the store's objects and their secondary indexes.

A view is the store itself, not a copy: it is consistent within one synchronous section, and shows later writes after
the next await. Pure functions take a `ReadView` and run through without awaiting. `view_of` builds one from objects,
for tests and for planning on hypothetical states. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from common import model

THIS_INDEX: Final = 2**64 - 1
"""Stands in a written object for "the index of the log entry that carries this write"; replaced when it is applied.

Honoured in Task.assigned_index, Task.endpoint_index, Task.spec_version, Service.spec_version,
Service.previous_spec_version and AddressHold.index; `version` gets the index in any case.
"""

StoreObject: TypeAlias = (
    model.Cluster | model.Node | model.Service | model.Task | model.Network | model.Secret | model.Config
)
T = TypeVar("T", bound=StoreObject)
T_co = TypeVar("T_co", covariant=True)


class Rows(Protocol[T_co]):
    """Where a table's objects are: in memory, or in a transaction laid over that."""

    def get(self, key: str, /) -> T_co | None:
        """The object with this id."""

    def all(self) -> Iterable[T_co]:
        """Every object."""

    def by(self, index: str, key: Hashable, /) -> Sequence[T_co]:
        """The objects that have `key` in a secondary index."""

    def __len__(self) -> int:
        """How many objects there are."""


class Table(Generic[T]):
    """One kind of object."""

    __slots__ = ("_rows",)

    def __init__(self, rows: Rows[T]) -> None:
        self._rows = rows

    def get(self, key: str) -> T | None:
        """The object with this id, or None."""
        return self._rows.get(key)

    def all(self) -> Iterable[T]:
        """Every object; the order is the one in which they were created."""
        return self._rows.all()

    def by_prefix(self, prefix: str) -> Sequence[T]:
        """The objects whose id begins with `prefix`."""
        return [o for o in self._rows.all() if o.id.startswith(prefix)]

    def __len__(self) -> int:
        return len(self._rows)


class Nodes(Table[model.Node]):
    """Nodes, also by host name (any case)."""

    __slots__ = ()

    def by_hostname(self, name: str) -> Sequence[model.Node]:
        return self._rows.by("hostname", name.lower())


class Services(Table[model.Service]):
    """Services, also by name (any case; names are unique)."""

    __slots__ = ()

    def by_name(self, name: str) -> model.Service | None:
        found = self._rows.by("name", name.lower())
        return found[0] if found else None


class Networks(Table[model.Network]):
    """Networks, also by name (any case; names are unique among those that nobody has removed)."""

    __slots__ = ()

    def by_name(self, name: str) -> model.Network | None:
        found = self._rows.by("name", name.lower())
        return next((network for network in found if not network.pending_delete), None)


class Tasks(Table[model.Task]):
    """Tasks, also by service, by node ("" for tasks without one)."""

    __slots__ = ()

    def by_service(self, service_id: str) -> Sequence[model.Task]:
        return self._rows.by("service", service_id)

    def by_node(self, node_id: str) -> Sequence[model.Task]:
        return self._rows.by("node", node_id)


class Secrets(Table[model.Secret]):
    """Secrets, also by name."""

    __slots__ = ()

    def by_name(self, name: str) -> model.Secret | None:
        found = self._rows.by("name", name.lower())
        return found[0] if found else None


class Configs(Table[model.Config]):
    """Configs, also by name."""

    __slots__ = ()

    def by_name(self, name: str) -> model.Config | None:
        found = self._rows.by("name", name.lower())
        return found[0] if found else None


class ReadView(Protocol):
    """The state as of log index `index`."""

    @property
    def index(self) -> int:
        """Index of the last applied entry."""

    @property
    def cluster(self) -> model.Cluster:
        """The cluster; one with an empty id before the swarm exists."""

    @property
    def nodes(self) -> Nodes:
        """Machines of the swarm."""

    @property
    def services(self) -> Services:
        """What users asked for."""

    @property
    def tasks(self) -> Tasks:
        """One replica each, bound to a node for ever."""

    @property
    def networks(self) -> Networks:
        """Overlay networks."""

    @property
    def secrets(self) -> Secrets:
        """Secrets, with their data."""

    @property
    def configs(self) -> Configs:
        """Configs, with their data."""
