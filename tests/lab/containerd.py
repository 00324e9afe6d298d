"""A containerd of the test's own, with root, state and socket below one folder, and a small image made from busybox.

Needs root. `kill` is kill -9; `stop` leaves neither shim nor mount nor cgroup behind.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
from pathlib import Path

from tests.lab.support import until

CONFIG = """\
version = 2
root = "{root}/root"
state = "{root}/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]
[grpc]
  address = "{root}/c.sock"
[ttrpc]
  address = "{root}/t.sock"
"""
RECORDS = Path("/run/containerd/runc")
BUSYBOX = Path("/bin/busybox")
APPLETS = (
    "sh",
    "sleep",
    "cat",
    "echo",
    "id",
    "env",
    "hostname",
    "yes",
    "head",
    "stty",
    "ls",
    "kill",
    "mount",
    "seq",
)


class OwnContainerd:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.socket = str(root / "c.sock")
        self._process: subprocess.Popen[bytes] | None = None
        root.mkdir(parents=True, exist_ok=True)
        (root / "config.toml").write_text(CONFIG.format(root=root))

    def start(self) -> None:
        with (self.root / "containerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["containerd", "--config", str(self.root / "config.toml")], stdout=log, stderr=log
            )

    def kill(self) -> None:
        """As a crash: shims and containers stay."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def power_cut(self) -> None:
        """All processes are gone, and what lies on a tmpfs in a real machine: sockets, state, mounts."""
        self._clear()
        shutil.rmtree(self.root / "state")

    def stop(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.kill()
        for pid in self.shims():
            with contextlib.suppress(ProcessLookupError):  # a child of one that has just been killed
                os.kill(pid, signal.SIGKILL)
        ids = self._ids()
        for id in ids:
            shutil.rmtree(RECORDS / id, ignore_errors=True)
        for mount in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            target = mount.split()[1]
            if target.startswith(f"{self.root}/"):
                subprocess.run(["umount", "-l", target], check=False)
        for folder in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()):
            for id in ids:
                for group in sorted((folder / "shoal" / id.rpartition("/")[2]).glob("**/"), reverse=True):
                    _remove_group(group)
            with contextlib.suppress(OSError):  # there is none, or another run of the tests has groups in it
                (folder / "shoal").rmdir()

    def _ids(self) -> list[str]:
        """NAMESPACE/ID of all containers that the OCI runtime may keep a record of, in a place that all share."""
        tasks = self.root / "root" / "io.containerd.runtime.v2.task"
        return [f"{bundle.parent.name}/{bundle.name}" for bundle in tasks.glob("*/*")]

    def shims(self) -> list[int]:
        """Our shims and all that runs below them: they name our socket, or have such a parent."""
        found: list[int] = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                try:
                    line = (folder / "cmdline").read_bytes()
                except OSError:
                    continue
                if b"containerd-shim" in line and self.socket.encode() in line:
                    found.append(int(folder.name))
        for pid in list(found):
            children = Path(f"/proc/{pid}/task/{pid}/children")
            if children.exists():
                found += [int(child) for child in children.read_text().split()]
        return found


def _remove_group(group: Path) -> None:
    def removed() -> bool:
        if group.exists():
            with contextlib.suppress(OSError):  # in use as long as a process of it ends
                group.rmdir()
        return not group.exists()

    until(removed, 30, f"{group} can be removed", every=0.01)


def busybox_layout(name: str = "busybox:test", **config: object) -> bytes:
    """An OCI layout with two layers, as a tar archive; `config` goes into the image's Config."""
    # The name in it makes the layers its own: equal ones aren't fetched twice, not even for another namespace.
    one = _layer(
        {"bin/busybox": BUSYBOX.read_bytes(), "etc/name": name.encode()},
        {f"bin/{name}": "busybox" for name in APPLETS},
    )
    passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:web:/srv:/bin/sh\n"
    group = "root:x:0:\nweb:x:102:\nextra:x:103:web\n"
    two = _layer(
        {
            "etc/passwd": passwd.encode(),
            "etc/group": group.encode(),
            "etc/hello": b"hello\n",
            "etc/of": name.encode(),
        },
        {},
    )
    blobs: dict[str, bytes] = {}

    def add(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    zipped = [gzip.compress(layer, 1, mtime=0) for layer in (one, two)]
    layers = [add(layer, "application/vnd.oci.image.layer.v1.tar+gzip") for layer in zipped]
    configuration = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "os": "linux",
        "created": "2026-01-02T03:04:05Z",
        "config": {"Env": ["IMAGE=yes"], "Cmd": ["sleep", "1000"], **config},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in (one, two)],
        },
    }
    described = add(json.dumps(configuration).encode(), "application/vnd.oci.image.config.v1+json")
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": described, "layers": layers}
    entry = add(json.dumps(manifest).encode(), kind)
    entry["annotations"] = {"io.containerd.image.name": name}
    index = {"schemaVersion": 2, "manifests": [entry]}
    files = {f"blobs/sha256/{digest}": data for digest, data in blobs.items()}
    return _layer({**files, "index.json": json.dumps(index).encode(), "oci-layout": b"{}"}, {})


def _layer(files: dict[str, bytes], links: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(data), 0o755
            tar.addfile(info, io.BytesIO(data))
        for path, target in links.items():
            info = tarfile.TarInfo(path)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return out.getvalue()
