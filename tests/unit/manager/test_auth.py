"""Who a certificate says is calling: from any thread, and never by what was true under another root."""

import asyncio
import datetime as dt
import secrets
import threading
from typing import Any

import pytest

from common import errors, model, pki, tokens
from common.clock import SystemClock
from manager import auth
from manager.auth import Authorizer
from manager.ca import authority
from manager.store.store import Store

NOW = dt.datetime.now(dt.UTC)
ROLES = {role: secrets.token_bytes(authority.SECRET_BYTES) for role in model.NodeRole}


def joiner(root: model.RootCA, role: model.NodeRole) -> bytes:
    token = tokens.parse(authority.token_for(root, role))
    return pki.issue_joiner(pki.join_authority(token.secret, role, token.digest), pki.new_key())


async def store_of(root: model.RootCA) -> Store:
    store = Store(SystemClock())

    async def propose(data: bytes) -> int:
        store.apply(store.view().index + 1, 1, data)
        return store.view().index

    store.attach(propose)
    node = model.Node(id="w1", role=model.NodeRole.WORKER)
    await store.update(lambda tx: [tx.put(model.Cluster(id="c", root_ca=root)), tx.put(node)])
    return store


async def rotate(store: Store) -> None:
    cluster = store.view().cluster
    fresh = {role: secrets.token_bytes(authority.SECRET_BYTES) for role in model.NodeRole}
    root = authority.rotated(cluster.root_ca, fresh)
    await store.update(lambda tx: tx.put(model.Cluster(id="c", root_ca=root)))


async def test_a_rotated_token_is_void_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a certificate that another thread was just looking at when it was rotated."""
    store = await store_of(authority.new_root(pki.create_root(NOW), ROLES))
    authorizer = Authorizer(store)
    leaf = joiner(store.view().cluster.root_ca, model.NodeRole.WORKER)
    looking, rotated = threading.Event(), threading.Event()
    classify = pki.classify

    def slow(*arguments: Any) -> pki.Peer | None:
        looking.set()
        assert rotated.wait(10)
        return classify(*arguments)

    monkeypatch.setattr(auth.pki, "classify", slow)
    call = asyncio.create_task(asyncio.to_thread(authorizer.caller, leaf, "10.0.0.1"))
    await asyncio.to_thread(looking.wait, 10)
    await rotate(store)
    rotated.set()
    assert (await call).join_role is model.NodeRole.WORKER  # it began under the old token
    with pytest.raises(errors.Unauthenticated, match="not one of this swarm"):
        authorizer.caller(leaf, "10.0.0.1")
    authorizer.close()
    await store.close()


async def test_a_first_caller_is_who_the_certificate_says() -> None:
    root = pki.create_root(NOW)
    store = await store_of(authority.new_root(root, ROLES))
    authorizer = Authorizer(store)
    life = dt.timedelta(days=1)
    csr = pki.create_csr(pki.new_key())
    leaf = pki.issue_node(root, csr, "w1", model.NodeRole.WORKER, "c", NOW, life)
    leaf = pki.split_chain(leaf)[0]
    caller = authorizer.first(auth.first_caller(authorizer.caller(leaf, "10.0.0.7")))
    assert (caller.node_id, caller.address, caller.forwarded) == ("w1", "10.0.0.7", True)
    assert caller.roles == {model.Role.ROLE_WORKER}
    local = authorizer.first(model.ForwardedCaller())
    assert local.roles == {model.Role.ROLE_LOCAL, model.Role.ROLE_MANAGER}
    assert local.forwarded
    authorizer.close()
    await store.close()
