"""Registry credentials as the API carries them: base64 of JSON, in X-Registry-Auth and in a task's pull_auth. Pure."""

from __future__ import annotations

import base64
import binascii
import json

from agent.runtime.image import RegistryAuth
from common import errors


def registry_auth(text: str) -> RegistryAuth | None:
    """The credentials in `text`; None for none; raises errors.InvalidArgument without repeating them."""
    if not text:
        return None
    try:
        padded = text + "=" * (-len(text) % 4)
        values = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if not isinstance(values, dict):
            raise ValueError("not an object")
    except (ValueError, binascii.Error) as exc:
        raise errors.InvalidArgument("the registry credentials cannot be read") from exc
    fields = ("username", "password", "serveraddress", "identitytoken", "registrytoken")
    found = [str(values.get(name) or "") for name in fields]
    return RegistryAuth(*found) if any(found) else None
