"""What machines boot from: the base system, the project's wheel, and the layer that install.sh makes on the base.

Each is cached by a hash of what it is made from. ``lab up`` calls ``prepare``.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from plan import CACHE, LAB_CODE, MACHINES, PATH, SOURCE, LabError

SUITE = "bookworm"
PYTHON = "3.11"  # the suite's own
# What a small cloud image of a machine would have, and what install.sh would fetch: it finds it there already.
PACKAGES = """
    systemd systemd-sysv dbus iproute2 nftables libnftables1 containerd runc crun python3 python3-venv
    ca-certificates curl iputils-ping netbase procps tcpdump conntrack less
"""
UNITS = LAB_CODE / "units"
LOCK = SOURCE / "deploy" / "requirements.lock"
PROGRAM = ("common", "manager", "agent", "cli")
# Not needed in a machine without a screen, a disk of its own or a way to Debian's archive.
MASKED = """
    systemd-networkd.service systemd-networkd.socket systemd-resolved.service systemd-timesyncd.service
    console-getty.service getty.target apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer
    e2scrub_all.timer fstrim.timer systemd-firstboot.service nftables.service
"""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Rootfs:
    base: Path
    layer: Path


def prepare(say: Say) -> Rootfs:
    """Builds what is missing and returns the two read-only folders that every machine is laid upon."""
    with ThreadPoolExecutor(3) as pool:
        base = pool.submit(_base, say)
        wheel = pool.submit(_wheel, say)
        wheels = pool.submit(_dependencies, say)
        layer = _layer(say, base.result(), wheel.result(), wheels.result())
        return Rootfs(base.result(), layer)


def run(argv: list[str], what: str, **options: object) -> str:
    """Runs a command silently; its output is shown only when it fails."""
    done = subprocess.run(  # type: ignore[call-overload]
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, **options
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.strip().splitlines()[-25:])
        raise LabError(f"{what} failed ({argv[0]} ended with {done.returncode}):\n{tail}")
    return str(done.stdout)


def digest(parts: Iterable[bytes]) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()[:16]


@contextmanager
def building(target: Path) -> Iterator[Path | None]:
    """Yields a folder to build in, which becomes TARGET at the end; None when TARGET is there already.

    Two labs that need the same thing build it once.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            os.utime(target)
            yield None
            return
        temporary = target.with_name(target.name + ".new")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(target)


def _base_path() -> Path:
    return CACHE / f"base-{digest([SUITE.encode(), PACKAGES.encode()])}"


def _base(say: Say) -> Path:
    target = _base_path()
    with building(target) as folder:
        if folder is not None:
            say("base system: mmdebstrap (half a minute)")
            argv = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES.split())}"]
            # A host behind a proxy: the new system is fetched by the same way.
            proxy = run(["apt-config", "dump", "--format=%v", "Acquire::http::Proxy"], "apt-config").strip()
            if proxy:
                argv.append(f'--aptopt=Acquire::http::Proxy "{proxy}"')
            mirror = os.environ.get("SHOAL_LAB_MIRROR", "")
            run([*argv, SUITE, str(folder), *([mirror] if mirror else [])], "making the base system")
    return target


def _source() -> dict[str, bytes]:
    """All that goes into the wheel: names and contents."""
    files = [SOURCE / name for name in ("pyproject.toml", "LICENSE", "README.md") if (SOURCE / name).exists()]
    for package in PROGRAM:
        files += (
            p
            for p in (SOURCE / package).rglob("*")
            if p.is_file() and "__pycache__" not in p.parts and not p.name.endswith((".pyc", "~"))
        )
    return {str(f.relative_to(SOURCE)): f.read_bytes() for f in sorted(files)}


def _wheel_path(content: dict[str, bytes]) -> Path:
    return CACHE / f"wheel-{digest(part for n, c in content.items() for part in (n.encode(), c))}"


def _tools(say: Say) -> Path:
    """A virtual environment with pip: Debian's own Python comes without."""
    target = CACHE / f"tools-{sys.version_info.major}.{sys.version_info.minor}"
    with building(target) as folder:
        if folder is not None:
            run([sys.executable, "-m", "venv", str(folder)], "making a virtual environment")
    return target / "bin" / "python3"


def _wheel(say: Say) -> Path:
    """The folder with the project's wheel, built from a copy of the source so that none of it is touched."""
    content = _source()
    target = _wheel_path(content)
    with building(target) as folder:
        if folder is not None:
            say("wheel: building the project")
            with tempfile.TemporaryDirectory(prefix="shoal-wheel-") as temporary:
                for name, data in content.items():
                    copy = Path(temporary) / name
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    copy.write_bytes(data)
                (Path(temporary) / "README.md").touch()
                argv = [
                    str(_tools(say)),
                    "-m",
                    "pip",
                    "--quiet",
                    "wheel",
                    "--no-deps",
                    "-w",
                    str(folder),
                    temporary,
                ]
                run(argv, "building the wheel", env={**os.environ, "SOURCE_DATE_EPOCH": "946684800"})
    return target


def _dependencies_path() -> Path:
    return CACHE / f"wheels-{digest([PYTHON.encode(), LOCK.read_bytes()])}"


def _dependencies(say: Say) -> Path:
    """The locked dependencies as wheels, for an installation without a network."""
    target = _dependencies_path()
    with building(target) as folder:
        if folder is not None:
            say("wheels: the locked dependencies")
            argv = [
                str(_tools(say)),
                "-m",
                "pip",
                "--quiet",
                "download",
                "--require-hashes",
                "--only-binary",
                ":all:",
            ]
            if f"{sys.version_info.major}.{sys.version_info.minor}" != PYTHON:
                argv += ["--python-version", PYTHON, "--implementation", "cp", "--no-deps"]
                for tag in ("manylinux_2_28", "manylinux_2_17", "manylinux2014"):
                    argv += ["--platform", f"{tag}_{os.uname().machine}"]
            run([*argv, "-r", str(LOCK), "-d", str(folder)], "downloading the dependencies")
    return target


def _payload() -> list[Path]:
    """What travels to a machine beside the wheels."""
    deploy = SOURCE / "deploy"
    return [deploy / "install.sh", deploy / "requirements.lock", *sorted((deploy / "systemd").iterdir())]


# Runs in mount, process and network namespaces of its own: nothing it mounts stays, nothing is fetched.
INSTALL = """
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$BASE,upperdir=$LAYER/upper,workdir=$LAYER/work" "$LAYER/root"
mount -t proc proc "$LAYER/root/proc"
mount --bind /dev "$LAYER/root/dev"
mkdir -p "$LAYER/root/mnt/shoal"
mount -t tmpfs tmpfs "$LAYER/root/mnt/shoal"
cp -r "$PAYLOAD" "$LAYER/root/mnt/shoal/payload"
mkdir "$LAYER/root/mnt/shoal/wheels"
cp "$WHEELS"/*.whl "$LAYER/root/mnt/shoal/wheels"
cp "$WHEEL"/*.whl "$LAYER/root/mnt/shoal/payload"
chroot "$LAYER/root" /mnt/shoal/payload/install.sh --wheels /mnt/shoal/wheels
umount "$LAYER/root/mnt/shoal"
rmdir "$LAYER/root/mnt/shoal"
cp "$UNITS"/*.service "$LAYER/root/etc/systemd/system/"
for unit in "$UNITS"/*.service; do
    systemctl --root "$LAYER/root" --quiet enable "$(basename "$unit")"
done
systemctl --root "$LAYER/root" --quiet mask $MASKED
systemctl --root "$LAYER/root" --quiet set-default multi-user.target
mkdir -p "$LAYER/root/var/log/journal" "$LAYER/root/etc/systemd/journald.conf.d"
printf '[Journal]\\nStorage=persistent\\nRateLimitIntervalSec=0\\nSystemMaxUse=100M\\n' \
    >"$LAYER/root/etc/systemd/journald.conf.d/lab.conf"
: >"$LAYER/root/etc/machine-id"
umount "$LAYER/root/dev" "$LAYER/root/proc" "$LAYER/root"
"""


def stage(target: Path, wheel: Path) -> None:
    """Copies install.sh, the units and the wheel to TARGET, laid out as a release is."""
    for file in _payload():
        copy = target / file.relative_to(SOURCE / "deploy")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, copy)
    for file in wheel.glob("*.whl"):
        shutil.copy2(file, target / file.name)


def _layer_path(base: Path, wheel: Path, wheels: Path) -> Path:
    parts = [p.name.encode() for p in (base, wheel, wheels)]
    parts += [f.read_bytes() for f in (*_payload(), *sorted(UNITS.iterdir()))]
    parts += [INSTALL.encode(), MASKED.encode()]
    return CACHE / f"layer-{digest(parts)}"


def current_layer() -> Path:
    """The layer that the working tree as it is now would give, built or not."""
    return _layer_path(_base_path(), _wheel_path(_source()), _dependencies_path()) / "upper"


def _layer(say: Say, base: Path, wheel: Path, wheels: Path) -> Path:
    target = _layer_path(base, wheel, wheels)
    with building(target) as folder:
        if folder is not None:
            say("machine image: install.sh on the base system")
            for name in ("upper", "work", "root"):
                (folder / name).mkdir()
            with tempfile.TemporaryDirectory(prefix="shoal-payload-") as payload:
                stage(Path(payload), wheel)
                environment = {
                    "PATH": PATH,
                    "LC_ALL": "C.UTF-8",
                    "BASE": str(base),
                    "LAYER": str(folder),
                    "PAYLOAD": payload,
                    "WHEEL": str(wheel),
                    "WHEELS": str(wheels),
                    "UNITS": str(UNITS),
                    "MASKED": " ".join(MASKED.split()),
                }
                namespaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
                run([*namespaces, "sh", "-c", INSTALL], "install.sh in the base system", env=environment)
    return target / "upper"


def newest_program(say: Say) -> tuple[Path, Path]:
    """The wheel of the working tree as it is now, and its dependencies: for ``lab install``."""
    return _wheel(say), _dependencies(say)


def prune(keep: int = 3) -> None:
    """Forgets cached things that no machine uses, all but the newest few of each kind."""
    text = ""
    for record in MACHINES.parent.parent.glob("shoal-lab*/lab.json"):
        text += record.read_text()
    for kind in ("base", "layer", "wheel", "wheels", "images"):
        found = sorted(CACHE.glob(f"{kind}-*"), key=lambda p: p.stat().st_mtime, reverse=True)
        for folder in found[keep:]:
            if folder.name not in text:
                shutil.rmtree(folder, ignore_errors=True)
