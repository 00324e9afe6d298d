"""The registry protocol's pulling half: manifests and blobs over HTTP, with mirrors and the two ways to log in.

A reference is tried at each endpoint of its domain in turn: mirrors (for docker.io) first, then the registry itself.
Called by the puller and by `GET /distribution/{name}/json`. Errors have the words that Docker's daemon has for them.
"""

import asyncio
import base64
import ipaddress
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from agent.runtime import manifest as m
from agent.runtime.image import Descriptor, Distribution, RegistryAuth
from agent.runtime.reference import DEFAULT_DOMAIN, Reference
from common import errors

_HUB = "https://registry-1.docker.io"
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
_BUFFER = 1 << 20
_RESUMES = 5  # of one blob, after a broken connection
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """`mirrors`: base URLs that are asked first for docker.io; `insecure`: host[:port] or networks without TLS."""

    mirrors: tuple[str, ...] = ()
    insecure: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    url: str  # https://host[:port], no slash at the end
    verify: bool = True
    mirror: bool = False


@dataclass(frozen=True, slots=True)
class FoundManifest:
    """A manifest, or an index, as fetched, and where."""

    endpoint: Endpoint
    data: bytes
    descriptor: Descriptor


def endpoints(domain: str, settings: RegistrySettings) -> list[Endpoint]:
    """Where a domain's images may be had, in the order of trying."""
    if domain == DEFAULT_DOMAIN:
        return [*(_mirror(url, settings) for url in settings.mirrors), Endpoint(_HUB)]
    if _is_insecure(domain, settings.insecure):
        return [Endpoint(f"http://{domain}"), Endpoint(f"https://{domain}", verify=False)]
    return [Endpoint(f"https://{domain}")]


def _mirror(url: str, settings: RegistrySettings) -> Endpoint:
    full = (
        url if "://" in url else f"http://{url}" if _is_insecure(url, settings.insecure) else f"https://{url}"
    )
    host = full.split("://", 1)[1].split("/", 1)[0]
    return Endpoint(full.rstrip("/"), verify=not _is_insecure(host, settings.insecure), mirror=True)


def _is_insecure(domain: str, listed: Sequence[str]) -> bool:
    host = domain.rsplit(":", 1)[0] if re.search(r":\d+$", domain) else domain
    if host == "localhost" or domain in listed or host in listed:
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    networks = [ipaddress.ip_network(item, strict=False) for item in listed if "/" in item]
    return address.is_loopback or any(address in network for network in networks)


class Registry:
    """One HTTP session; tokens are kept for its life."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None
        self._tokens: dict[tuple[str, str, RegistryAuth | None], str] = {}

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def manifest(self, ref: Reference, auth: RegistryAuth | None) -> FoundManifest:
        """The manifest or index that the reference names, from the first endpoint that has it."""
        failed: errors.ShoalError | None = None
        for endpoint in endpoints(ref.domain, self._settings):
            try:
                return await self._manifest_at(endpoint, ref, ref.wanted, auth)
            except errors.ShoalError as error:
                if failed is None or not isinstance(error, errors.Internal):
                    failed = error  # a refusal says more than a broken line
        raise failed or errors.Internal(f"no registry is known for {ref.domain}")

    async def child(
        self, found: FoundManifest, ref: Reference, digest: str, auth: RegistryAuth | None
    ) -> bytes:
        """A manifest that an index names, from the same endpoint."""
        return (await self._manifest_at(found.endpoint, ref, digest, auth)).data

    async def blob(
        self, endpoint: Endpoint, ref: Reference, item: Descriptor, auth: RegistryAuth | None, offset: int = 0
    ) -> AsyncGenerator[bytes, None]:
        """A blob's bytes from `offset`; broken connections are taken up again where they broke."""
        resumes = 0
        while True:
            headers = {"Range": f"bytes={offset}-"} if offset else {}
            path = f"/v2/{ref.path}/blobs/{item.digest}"
            try:
                async with self._get(endpoint, path, ref, auth, headers) as answer:
                    skip = offset if offset and answer.status == 200 else 0
                    async for chunk in answer.content.iter_any():
                        fresh = chunk[skip:]
                        skip = max(skip - len(chunk), 0)
                        if fresh:
                            offset += len(fresh)
                            yield fresh
                if offset >= item.size:
                    return
                broken: Exception = EOFError(f"the blob ended after {offset} of {item.size} bytes")
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                broken = error
            resumes += 1
            if resumes > _RESUMES:
                raise errors.Internal(f'Get "{endpoint.url}{path}": {_reason(broken)}') from broken
            await asyncio.sleep(0.1 * 2**resumes)

    async def _manifest_at(
        self, endpoint: Endpoint, ref: Reference, wanted: str, auth: RegistryAuth | None
    ) -> FoundManifest:
        path = f"/v2/{ref.path}/manifests/{wanted}"
        try:
            async with self._get(endpoint, path, ref, auth, {"Accept": m.ACCEPT}) as answer:
                data = await answer.content.read(m.MAX_MANIFEST + 1)
                while chunk := await answer.content.read(m.MAX_MANIFEST + 1):
                    data += chunk
                    if len(data) > m.MAX_MANIFEST:
                        break
                announced = answer.content_type
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise errors.Internal(f'Get "{endpoint.url}/v2/": {_reason(error)}') from error
        if len(data) > m.MAX_MANIFEST:
            raise errors.InvalidArgument("the image's manifest is too large")
        digest = m.digest_of(data)
        if wanted.startswith("sha256:") and digest != wanted:
            raise errors.Internal(f"manifest verification failed for digest {wanted}")
        kind = m.media_type(m.parse_json(data, "image manifest"), announced)
        return FoundManifest(endpoint, data, Descriptor(kind, digest, len(data)))

    @asynccontextmanager
    async def _get(
        self,
        endpoint: Endpoint,
        path: str,
        ref: Reference,
        auth: RegistryAuth | None,
        headers: Mapping[str, str],
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One GET, after a log-in if the registry asks for it. A mirror never sees the user's password."""
        auth = None if endpoint.mirror else auth
        key = (endpoint.url, ref.path, auth)
        for attempt in range(2):
            sent = dict(headers)
            if key in self._tokens:
                sent["Authorization"] = self._tokens[key]
            url = URL(endpoint.url + path, encoded=True)
            async with self._http().get(url, headers=sent, ssl=endpoint.verify) as answer:
                if answer.status == 401 and attempt == 0:
                    challenge = answer.headers.get("WWW-Authenticate", "")
                    self._tokens[key] = await self._log_in(challenge, ref, auth, endpoint)
                    continue
                if answer.status not in (200, 206):
                    raise _refusal(answer.status, await answer.content.read(65536))
                yield answer
                return

    async def _log_in(
        self, challenge: str, ref: Reference, auth: RegistryAuth | None, endpoint: Endpoint
    ) -> str:
        """What to send as Authorization, from the registry's challenge."""
        scheme, _, rest = challenge.partition(" ")
        if auth is not None and auth.registry_token:
            return f"Bearer {auth.registry_token}"
        if scheme.lower() == "basic":
            if auth is None or not auth.username:
                raise errors.Unauthenticated(f'Get "{endpoint.url}/v2/": no basic auth credentials')
            return _basic(auth)
        if scheme.lower() != "bearer":
            raise errors.Unauthenticated("unauthorized: authentication required")
        asked = dict(_CHALLENGE.findall(rest))
        scope = asked.get("scope") or f"repository:{ref.path}:pull"
        query = {"service": asked.get("service", ""), "scope": scope}
        realm = asked.get("realm", "")
        if endpoint.verify and endpoint.url.startswith("https://") and not realm.startswith("https://"):
            raise errors.Unauthenticated(f"the registry's token service {realm!r} isn't protected by TLS")
        return f"Bearer {await self._token(realm, query, auth, endpoint)}"

    async def _token(
        self, realm: str, query: Mapping[str, str], auth: RegistryAuth | None, endpoint: Endpoint
    ) -> str:
        http = self._http()
        if auth is not None and auth.identity_token:
            form = {**query, "grant_type": "refresh_token", "refresh_token": auth.identity_token}
            request = http.post(realm, data={**form, "client_id": "shoal"}, ssl=endpoint.verify)
        else:
            headers = {"Authorization": _basic(auth)} if auth is not None and auth.username else {}
            request = http.get(realm, params=query, headers=headers, ssl=endpoint.verify)
        async with request as answer:
            body = await answer.content.read(1 << 20)
            if answer.status != 200:
                raise errors.Unauthenticated("unauthorized: incorrect username or password")
        said = m.parse_json(body, "answer of the token service")
        token = said.get("token") or said.get("access_token")
        if not isinstance(token, str):
            raise errors.Unauthenticated("authorization server did not include a token in the response")
        return token

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=_TIMEOUT,
                read_bufsize=_BUFFER,
                trust_env=True,
                auto_decompress=False,
                headers={"User-Agent": "shoal"},
            )
        return self._session


def distribution(found: FoundManifest, configuration: m.Configuration | None) -> Distribution:
    """The answer about a fetched manifest; one that isn't an index needs its configuration for the platform."""
    if found.descriptor.media_type in m.INDEXES:
        entries = m.parse_index(m.parse_json(found.data, "image index"))
        platforms = tuple(e.platform for e in entries if e.platform is not None)
    else:
        platforms = (configuration.platform,) if configuration is not None else ()
    return Distribution(found.descriptor, platforms)


def _basic(auth: RegistryAuth) -> str:
    return "Basic " + base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()


def _refusal(status: int, body: bytes) -> errors.ShoalError:
    """A registry's error answer in Docker's words: `code: message`, with blanks for the underscores."""
    code, message = _said(body)
    if status in (401, 403) or code in ("denied", "unauthorized", "name unknown"):
        text = f"{code or 'denied'}: {message or 'requested access to the resource is denied'}"
        return (errors.NotFound if code == "name unknown" else errors.Unauthenticated)(text)
    if status == 404:
        return errors.NotFound(f"{code or 'manifest unknown'}: {message or 'manifest unknown'}")
    if code:
        return errors.Internal(f"{code}: {message}")
    return errors.Internal(f"received unexpected HTTP status: {status}")


def _said(body: bytes) -> tuple[str, str]:
    try:
        first: Any = json.loads(body)["errors"][0]
        return str(first.get("code", "")).replace("_", " ").lower(), str(first.get("message", ""))
    except (ValueError, LookupError, TypeError, AttributeError):
        return "", ""


def _reason(error: Exception) -> str:
    """Why the line broke, as short as Go says it."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"dial tcp: lookup {error.host}: no such host"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"tls: failed to verify certificate: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        reason = (error.os_error.strerror or str(error.os_error)).lower()
        return f"dial tcp {error.host}:{error.port}: connect: {reason}"
    if isinstance(error, TimeoutError):
        return "net/http: request canceled while waiting for connection"
    return str(error) or type(error).__name__
