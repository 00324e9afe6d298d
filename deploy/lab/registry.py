"""Pushes built images into the lab's registry by the distribution API.

Run as a program inside the world outside, which has a way to the registry: ``registry.py FOLDER…``.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from images import INDEX, MANIFEST
from plan import REGISTRY, LabError


def _request(method: str, url: str, data: bytes | None = None, kind: str = "") -> tuple[int, Any]:
    headers = {"Content-Type": kind} if kind else {}
    headers["Accept"] = f"{INDEX}, {MANIFEST}"
    request = urllib.request.Request(url, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            response.read()
            return response.status, response.headers
    except urllib.error.HTTPError as error:
        error.read()
        return error.code, error.headers


def _push_blob(base: str, name: str, data: bytes) -> None:
    if _request("HEAD", f"{base}/blobs/sha256:{name}")[0] == 200:
        return
    status, headers = _request("POST", f"{base}/blobs/uploads/", b"")
    if status != 202:
        raise LabError(f"{base}: the registry refuses an upload ({status})")
    place = headers["Location"]
    join = "&" if "?" in place else "?"
    status, _ = _request("PUT", f"{place}{join}digest=sha256:{name}", data, "application/octet-stream")
    if status != 201:
        raise LabError(f"{base}: blob {name[:12]} was refused ({status})")


def push(folder: Path) -> str:
    """Puts one built image into the registry; returns what was done, nothing when it was all there."""
    record = json.loads((folder / "tags.json").read_text())
    base = f"http://{REGISTRY}/v2/{record['name']}"
    stale = {}
    for tag, wanted in record["tags"].items():
        status, headers = _request("HEAD", f"{base}/manifests/{tag}")
        if status != 200 or headers["Docker-Content-Digest"] != wanted:
            stale[tag] = wanted
    if not stale:
        return ""
    for wanted in dict.fromkeys(stale.values()):
        index = json.loads(_read(folder, wanted))
        for entry in index["manifests"]:
            manifest = json.loads(_read(folder, entry["digest"]))
            for part in (manifest["config"], *manifest["layers"]):
                _push_blob(base, part["digest"][7:], _read(folder, part["digest"]))
            _push_manifest(base, entry["digest"], _read(folder, entry["digest"]), MANIFEST)
    for tag, wanted in stale.items():
        _push_manifest(base, tag, _read(folder, wanted), INDEX)
    return f"registry: {record['name']} {' '.join(stale)}"


def _read(folder: Path, name: str) -> bytes:
    return (folder / "blobs" / name.removeprefix("sha256:")).read_bytes()


def _push_manifest(base: str, reference: str, data: bytes, kind: str) -> None:
    status, _ = _request("PUT", f"{base}/manifests/{reference}", data, kind)
    if status != 201:
        raise LabError(f"{base}: manifest {reference} was refused ({status})")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        if line := push(Path(argument)):
            print(line, flush=True)
