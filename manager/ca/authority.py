"""The swarm's root and join tokens, as the cluster object keeps them. Randomness is a parameter.

Used by bootstrap (a new swarm), by Control (rotation), by the CA service and by auth.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace

from common import model, pki, tokens
from common.tokens import SECRET_BYTES

__all__ = [
    "SECRET_BYTES",
    "join_authorities",
    "new_root",
    "next_number",
    "root_authority",
    "rotated",
    "token_for",
]


def new_root(root: pki.Authority, secrets: Mapping[model.NodeRole, bytes]) -> model.RootCA:
    """A new swarm's root with a first pair of join tokens."""
    bare = model.RootCA(cert=root.cert, key=root.key, digest=tokens.root_digest(root.cert))
    return rotated(bare, secrets)


def rotated(root: model.RootCA, secrets: Mapping[model.NodeRole, bytes]) -> model.RootCA:
    """The root with a new join token for each role that has a new secret; the old ones are worth nothing then."""
    made = {role: str(tokens.generate(root.digest, secret)) for role, secret in secrets.items()}
    kept = root.join_tokens
    pair = model.JoinTokens(
        worker=made.get(model.NodeRole.WORKER, kept.worker),
        manager=made.get(model.NodeRole.MANAGER, kept.manager),
    )
    return replace(root, join_tokens=pair)


def token_for(root: model.RootCA, role: model.NodeRole) -> str:
    """The join token of a role."""
    return root.join_tokens.manager if role is model.NodeRole.MANAGER else root.join_tokens.worker


def root_authority(root: model.RootCA) -> pki.Authority:
    """The root CA, able to issue."""
    return pki.Authority(root.cert, root.key)


def next_number(last: int, now: dt.datetime) -> int:
    """The number of a node's next certificate. It counts up, by the clock where it can: a store that was restored does
    not know how far its nodes had come since."""
    return max(last + 1, int(now.timestamp()))


def join_authorities(root: model.RootCA) -> dict[model.NodeRole, bytes]:
    """The certificates of the CAs that stand for the current join tokens."""
    return {
        role: pki.join_authority(tokens.parse(token_for(root, role)).secret, role, root.digest).cert
        for role in (model.NodeRole.WORKER, model.NodeRole.MANAGER)
    }
