"""Container images made from Debian packages; ``lab up`` calls ``build``, registry.py pushes what it built.

The images behave like Docker's of the same name as far as a swarm can tell: ports, entry points, signals, logs.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plan import CACHE, LabError
from rootfs import building, digest, run

EPOCH = 1_700_000_000
CREATED = "2023-11-14T22:13:20Z"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
SYSTEM_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Dependencies that only a whole Debian system needs.
NOT_NEEDED = {
    *("debconf", "debconf-2.0", "perl-base", "dpkg", "tar", "adduser", "init-system-helpers", "lsb-base"),
    *("sysvinit-utils", "usrmerge", "usr-is-merged", "iproute2", "gcc-12-base", "install-info", "passwd"),
    *("base-files", "debianutils"),
}
DROPPED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/lintian",
    "etc/init.d",
    "lib/systemd",
)

NGINX_CONF = """\
user nginx;
worker_processes auto;
error_log /var/log/nginx/error.log notice;
pid /run/nginx.pid;
events { worker_connections 1024; }
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    log_format main '$remote_addr - $remote_user [$time_local] "$request" '
                    '$status $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for"';
    access_log /var/log/nginx/access.log main;
    sendfile on;
    keepalive_timeout 65;
    include /etc/nginx/conf.d/*.conf;
}
"""
NGINX_SITE = """\
server {
    listen 80;
    listen [::]:80;
    server_name localhost;
    location / {
        root /usr/share/nginx/html;
        index index.html index.htm;
        sub_filter '@HOSTNAME@' '$hostname';
    }
    location = /whoami { default_type text/plain; return 200 "$hostname\\n"; }
    location = /client { default_type text/plain; return 200 "$remote_addr\\n"; }
}
"""
NGINX_PAGE = """\
<!DOCTYPE html>
<html>
<head><title>Welcome to nginx!</title></head>
<body>
<h1>Welcome to nginx!</h1>
<p>{note}</p>
<p>Served by @HOSTNAME@.</p>
</body>
</html>
"""
NGINX_ERROR = """\
<!DOCTYPE html>
<html>
<head><title>Error</title></head>
<body>
<h1>An error occurred.</h1>
</body>
</html>
"""
ENTRYPOINT = '#!/bin/sh\nset -e\nexec "$@"\n'
# Stands for a Java program of a tutorial: a page on port 8080 that says who serves it.
JAVA = """\
#!/bin/sh
set -e
mkdir -p /srv/page
echo "<result><name>hello</name><id>$(hostname)</id></result>" > /srv/page/index.html
exec busybox httpd -f -p 8080 -h /srv/page
"""
REDIS_ENTRYPOINT = """\
#!/bin/sh
set -e
# Like Docker's image: reachable from other containers.
if [ "$1" = redis-server ]; then
    set -- "$@" --protected-mode no
fi
exec "$@"
"""
PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
GROUP = "root:x:0:\nnogroup:x:65534:\n"
OWN_PASSWD = {
    "nginx": PASSWD + "nginx:x:101:101:nginx:/nonexistent:/bin/false\n",
    "redis": PASSWD + "redis:x:999:999::/data:/bin/false\n",
}
OWN_GROUP = {"nginx": GROUP + "nginx:x:101:\n", "redis": GROUP + "redis:x:999:\n"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one image is made; ``variants`` are tags whose bytes differ, so that an update changes something."""

    name: str
    packages: tuple[str, ...]
    tags: tuple[str, ...]
    config: dict[str, Any]
    variants: tuple[tuple[str, ...], ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()

    @property
    def repository(self) -> str:
        return self.name if "/" in self.name else f"library/{self.name}"


@dataclass(frozen=True, slots=True)
class Image:
    """One built image: a folder with ``blobs/`` and ``tags.json``."""

    name: str
    folder: Path


_SHELL = {"Env": [SYSTEM_PATH], "Cmd": ["sh"]}
_NGINX = {
    "Env": [SYSTEM_PATH],
    "Entrypoint": ["/docker-entrypoint.sh"],
    "Cmd": ["nginx", "-g", "daemon off;"],
    "ExposedPorts": {"80/tcp": {}},
    "StopSignal": "SIGQUIT",
    "Labels": {"maintainer": "Shoal's lab"},
}
_REDIS = {
    "Env": [SYSTEM_PATH],
    "Entrypoint": ["docker-entrypoint.sh"],
    "Cmd": ["redis-server"],
    "ExposedPorts": {"6379/tcp": {}},
    "Volumes": {"/data": {}},
    "WorkingDir": "/data",
}
RECIPES = (
    Recipe("busybox", (), ("latest", "1.35"), _SHELL),
    Recipe("alpine", (), ("latest", "3.19"), {**_SHELL, "Cmd": ["/bin/sh"]}),
    Recipe(
        "nginx",
        ("nginx", "bash"),
        ("latest", "1.22"),
        _NGINX,
        variants=(("alpine",), ("v1",), ("v2",)),
        files={
            "etc/nginx/nginx.conf": NGINX_CONF,
            "etc/nginx/conf.d/default.conf": NGINX_SITE,
            "docker-entrypoint.sh": ENTRYPOINT,
            "usr/share/nginx/html/50x.html": NGINX_ERROR,
        },
        links={"var/log/nginx/access.log": "/dev/stdout", "var/log/nginx/error.log": "/dev/stderr"},
        folders=("var/lib/nginx", "var/cache/nginx", "docker-entrypoint.d"),
    ),
    Recipe(
        "redis",
        ("redis-server",),
        ("latest", "7.0"),
        _REDIS,
        variants=(("alpine",), ("3.0.6",), ("3.0.7",)),
        files={"usr/local/bin/docker-entrypoint.sh": REDIS_ENTRYPOINT},
        folders=("data",),
    ),
    Recipe("socat", ("socat",), ("latest",), {"Env": [SYSTEM_PATH], "Entrypoint": ["socat"]}),
    Recipe(
        "coolgourav147/sleeper_traceroute",
        ("bash", "iputils-ping"),
        ("latest",),
        {"Env": [SYSTEM_PATH], "Cmd": ["sleep", "3600"], "StopSignal": "SIGKILL"},
    ),
    Recipe(
        "dockersamples/visualizer",
        (),
        ("latest",),
        {"Env": [SYSTEM_PATH], "Cmd": ["httpd", "-f", "-p", "8080"], "StopSignal": "SIGKILL"},
    ),
    Recipe(
        "vividbreeze/docker-tutorial",
        ("iputils-ping",),
        ("version1",),
        {"Env": [SYSTEM_PATH], "Cmd": ["java", "DataService"], "StopSignal": "SIGKILL"},
        files={"usr/bin/java": JAVA},
    ),
)
BASE_PACKAGES = ("libc6", "libcrypt1")


# -- Debian packages


def _closure(names: Iterable[str], known: set[str]) -> list[str]:
    """The packages and all that they depend on, without what ``known`` and NOT_NEEDED have."""
    found: list[str] = []
    todo = [name for name in names if name not in known]
    while todo:
        found += todo
        shown = run(
            ["apt-cache", "show", "--no-all-versions", *todo], "looking up packages", env=_environment()
        )
        names_next: list[str] = []
        for line in shown.splitlines():
            if line.startswith(("Depends: ", "Pre-Depends: ")):
                for part in line.partition(": ")[2].split(","):
                    names_next.append(re.split(r"[\s(:|]", part.strip())[0])
        todo = sorted({n for n in names_next if n not in NOT_NEEDED and n not in known and n not in found})
    return sorted(found)


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}


def _download(packages: list[str], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    argv = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *packages]
    try:
        run(argv, "downloading packages", cwd=folder, env=_environment())
    except LabError:
        # The lists are older than the archive: the versions they name are gone.
        subprocess.run(["apt-get", "-qq", "update"], stdout=subprocess.DEVNULL, check=False)
        run(argv, "downloading packages", cwd=folder, env=_environment())
    return sorted(folder.glob("*.deb"))


def _unpack(debs: list[Path], tree: Path) -> None:
    tree.mkdir(parents=True, exist_ok=True)
    for deb in debs:
        run(["dpkg-deb", "-x", str(deb), str(tree)], f"unpacking {deb.name}")
    for name in DROPPED:
        shutil.rmtree(tree / name, ignore_errors=True)


# -- trees and layers


def _base_tree(work: Path) -> tuple[Path, set[str]]:
    """What every image stands on: the C library, a shell with all of busybox's applets, the usual folders."""
    packages = _closure(BASE_PACKAGES, set())
    tree = work / "base"
    _unpack(_download(packages, work / "debs-base"), tree)
    _add_busybox(tree, work)
    return tree, set(packages)


def _add_busybox(tree: Path, work: Path) -> None:
    package = work / "package-busybox"
    if not package.exists():
        _unpack(_download(["busybox-static"], work / "debs-busybox"), package)
    source = next(p for p in (package / "bin/busybox", package / "usr/bin/busybox") if p.exists())
    (tree / "bin").mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, tree / "bin" / "busybox")
    applets = run([str(source), "--list"], "listing applets").split()
    for applet in applets:
        if applet != "busybox" and not (tree / "bin" / applet).exists():
            (tree / "bin" / applet).symlink_to("busybox")
    (tree / "usr" / "bin").mkdir(parents=True, exist_ok=True)
    (tree / "usr" / "bin" / "env").symlink_to("../../bin/busybox")
    for name in (
        "dev",
        "proc",
        "sys",
        "run",
        "root",
        "home",
        "etc",
        "var/run",
        "var/log",
        "opt",
        "srv",
        "mnt",
        "boot",
        "media",
    ):
        (tree / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (tree / name).mkdir(parents=True, exist_ok=True)
        (tree / name).chmod(0o1777)
    _write(tree, {"etc/passwd": PASSWD, "etc/group": GROUP, "etc/nsswitch.conf": "hosts: files dns\n"})


def _small_tree(work: Path, name: str) -> Path:
    """busybox and alpine: no C library, the shell is static."""
    tree = work / name
    _add_busybox(tree, work)
    release = f'NAME="{name}"\nID={name}\nPRETTY_NAME="{name} of a Shoal lab"\n'
    _write(tree, {"etc/os-release": release})
    return tree


def _write(tree: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        file = tree / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_text(text)
        file.chmod(0o755 if text.startswith("#!") else 0o644)


def _application_tree(recipe: Recipe, work: Path, known: set[str]) -> Path:
    tree = work / recipe.name
    packages = _closure(recipe.packages, known)
    _unpack(_download(packages, work / f"debs-{recipe.name}"), tree)
    _write(tree, recipe.files)
    passwd, group = OWN_PASSWD.get(recipe.name, PASSWD), OWN_GROUP.get(recipe.name, GROUP)
    _write(tree, {"etc/passwd": passwd, "etc/group": group})
    for name in recipe.folders:
        (tree / name).mkdir(parents=True, exist_ok=True)
    for name, target in recipe.links.items():
        link = tree / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    return tree


def _tar(tree: Path) -> bytes:
    """The tree as a tar archive whose bytes depend on nothing but names, modes and contents."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(tree.rglob("*")):
            info = archive.gettarinfo(str(path), str(path.relative_to(tree)))
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mtime = EPOCH
            if info.isreg():
                with path.open("rb") as content:
                    archive.addfile(info, content)
            else:
                archive.addfile(info)
    return output.getvalue()


class _Builder:
    """Collects the blobs of one image."""

    def __init__(self, folder: Path) -> None:
        self.blobs = folder / "blobs"
        self.blobs.mkdir(parents=True)
        self.folder = folder
        self.tags: dict[str, str] = {}

    def _blob(self, data: bytes, kind: str) -> dict[str, Any]:
        name = hashlib.sha256(data).hexdigest()
        (self.blobs / name).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{name}", "size": len(data)}

    def layer(self, tree: Path) -> tuple[dict[str, Any], str]:
        data = _tar(tree)
        return self._blob(gzip.compress(data, 6, mtime=0), LAYER), "sha256:" + hashlib.sha256(
            data
        ).hexdigest()

    def image(
        self, layers: list[tuple[dict[str, Any], str]], config: dict[str, Any], tags: Iterable[str]
    ) -> None:
        document = {
            "architecture": ARCHITECTURE,
            "os": "linux",
            "created": CREATED,
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [diff for _, diff in layers]},
            "history": [{"created": CREATED, "created_by": "Debian packages"} for _ in layers],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._blob(_json(document), CONFIG),
            "layers": [descriptor for descriptor, _ in layers],
        }
        entry = self._blob(_json(manifest), MANIFEST)
        entry["platform"] = {"architecture": ARCHITECTURE, "os": "linux"}
        index = self._blob(_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}), INDEX)
        for tag in tags:
            self.tags[tag] = index["digest"]

    def finish(self, repository: str) -> None:
        (self.folder / "tags.json").write_text(json.dumps({"name": repository, "tags": self.tags}, indent=1))


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def _build_one(recipe: Recipe, work: Path, folder: Path, base: tuple[Path, set[str]]) -> None:
    builder = _Builder(folder)
    if not recipe.packages:
        builder.image([builder.layer(_small_tree(work, recipe.name))], recipe.config, recipe.tags)
        builder.finish(recipe.repository)
        return
    tree = _application_tree(recipe, work, base[1])
    below = builder.layer(base[0])
    for tags in (recipe.tags, *recipe.variants):
        if recipe.name == "nginx":
            note = NGINX_PAGE.format(note=f"This is nginx:{tags[0]}.")
            _write(tree, {"usr/share/nginx/html/index.html": note})
        own = re.sub(r"\W", "_", recipe.name.rpartition("/")[2]).upper()
        environment = [*recipe.config["Env"], f"{own}_VERSION={tags[-1]}"]
        builder.image([below, builder.layer(tree)], {**recipe.config, "Env": environment}, tags)
    builder.finish(recipe.repository)


def build(say: Callable[[str], None]) -> list[Image]:
    """All images, from the cache when this file hasn't changed."""
    target = CACHE / f"images-{digest([Path(__file__).read_bytes(), ARCHITECTURE.encode()])}"
    with building(target) as folder:
        if folder is not None:
            say("images: " + ", ".join(r.name for r in RECIPES) + " from Debian packages")
            work = folder / "work"
            base = _base_tree(work)
            for recipe in RECIPES:
                _build_one(recipe, work, folder / recipe.name, base)
            shutil.rmtree(work)
    return [Image(r.name, target / r.name) for r in RECIPES]
