"""Names for the ids in task lists, asked of the daemon once each. Used by `service ps`, `node ps`, `stack ps`."""

from __future__ import annotations

from cli.client import Client
from cli.errors import ApiError


class Names:
    """Looks up what ids are called; with `resolve` off, ids stand for themselves."""

    def __init__(self, client: Client, resolve: bool) -> None:
        self._client = client
        self._resolve = resolve
        self._known: dict[str, str] = {}

    def service(self, service_id: str) -> str:
        return self._name("service", service_id)

    def node(self, node_id: str) -> str:
        return self._name("node", node_id)

    def _name(self, kind: str, object_id: str) -> str:
        if not self._resolve or not object_id:
            return object_id
        if object_id not in self._known:
            self._known[object_id] = self._ask(kind, object_id)
        return self._known[object_id]

    def _ask(self, kind: str, object_id: str) -> str:
        try:
            if kind == "service":
                found = self._client.get(f"/services/{object_id}", {"insertDefaults": "false"})
                return str(found.get("Spec", {}).get("Name") or object_id)
            found = self._client.get(f"/nodes/{object_id}")
        except ApiError:
            return object_id
        named = found.get("Spec", {}).get("Name") or found.get("Description", {}).get("Hostname")
        return str(named or object_id)
