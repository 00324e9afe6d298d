"""Credentials for a registry from the file that `docker login` writes, in the form of the X-Registry-Auth header."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from cli.errors import CliError
from cli.values.images import DEFAULT_DOMAIN, Image

_DEFAULT_SERVER = "https://index.docker.io/v1/"


def encoded_auth(image: str, environment: Mapping[str, str]) -> str:
    """Base64url of the credentials as JSON; of an empty object if there are none."""
    try:
        domain = Image(image).domain
    except ValueError as error:
        raise CliError(str(error)) from None
    server = _DEFAULT_SERVER if domain == DEFAULT_DOMAIN else domain
    folder = environment.get("DOCKER_CONFIG") or str(Path(environment.get("HOME", "/root")) / ".docker")
    found: dict[str, str] = {}
    try:
        stored = json.loads((Path(folder) / "config.json").read_text()).get("auths", {}).get(server, {})
    except FileNotFoundError:
        stored = {}
    except (OSError, ValueError) as error:
        raise CliError(f"the credentials in {folder}/config.json can't be read: {error}") from None
    if stored.get("auth"):
        user, _, password = base64.b64decode(stored["auth"]).decode().partition(":")
        found = {"username": user, "password": password, "serveraddress": server}
    if stored.get("identitytoken"):
        found["identitytoken"] = stored["identitytoken"]
    return base64.urlsafe_b64encode(json.dumps(found, separators=(",", ":")).encode()).decode()
