"""The other side: Debian's docker.io, in the same kind of machines, with nothing of Shoal left running in them.

The packages are fetched on the host and installed by dpkg, since the machines have no way to Debian's archive. dockerd keeps
its defaults (runc, overlay2, the machine's containerd) but for what the lab asks of it: its data on a plain file
system, the lab's registry as mirror, and its socket where the host can reach it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engine import BenchError
from benchmarks.lab import MACHINES, MANAGER, Side, run

REGISTRY = "10.99.0.254:5000"
PACKAGE = "docker.io"
DAEMON_SETTINGS = {
    # Bound from the host's own file system: overlay2 can't lie on the machine's overlay root.
    "data-root": "/var/lib/containerd/docker",
    "insecure-registries": [REGISTRY],
    "registry-mirrors": [f"http://{REGISTRY}"],
}
INSTALL = """
set -e
systemctl --quiet disable --now shoal-agent.service shoal-agent.socket shoal-manager.service shoal-manager.socket
rm -f /usr/local/lib/systemd/system/containerd.service.d/shoal.conf
mkdir -p /etc/docker /etc/systemd/system/docker.socket.d
cp /run/shoal/debs/daemon.json /etc/docker/daemon.json
printf '[Socket]\\nListenStream=\\nListenStream=/run/shoal/docker.sock\\n' >/etc/systemd/system/docker.socket.d/lab.conf
DEBIAN_FRONTEND=noninteractive dpkg --install /run/shoal/debs/*.deb >/run/shoal/debs/log 2>&1 || {
    cat /run/shoal/debs/log
    exit 1
}
systemctl daemon-reload
systemctl restart containerd.service
systemctl stop docker.service
systemctl restart docker.socket
systemctl start docker.service
"""


@dataclass
class DockerSide(Side):
    """Three dockerds."""

    name: str = "docker"
    daemons: tuple[str, ...] = ("dockerd", "containerd")

    def install(self) -> None:
        for machine in MACHINES:
            if self._runs_docker(machine):
                continue
            folder = self.run_folder(machine) / "debs"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(self._packages(), folder)
            (folder / "daemon.json").write_text(json.dumps(DAEMON_SETTINGS))
            self.inside(machine, "sh", "-c", INSTALL)
            shutil.rmtree(folder)

    def _runs_docker(self, machine: str) -> bool:
        command = "systemctl is-active docker.service || true"
        return self.inside(machine, "sh", "-c", command).strip() == "active"

    def _packages(self) -> Path:
        """The packages that a machine lacks for docker.io, from the host's own archive; kept among the lab's caches."""
        cache = Path(os.environ.get("SHOAL_LAB_CACHE", "/var/cache/shoal-lab")) / "docker-packages"
        if cache.exists():
            return cache
        with tempfile.TemporaryDirectory(prefix="shoal-bench-") as temporary:
            status = Path(temporary) / "status"
            status.write_text(self.inside(MANAGER, "cat", "/var/lib/dpkg/status"))
            apt = ["apt-get", "-qq", "-o", f"Dir::State::status={status}", "-o", "Debug::NoLocking=1"]
            plan = run([*apt, "--simulate", "--no-install-recommends", "install", PACKAGE])
            names = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
            if PACKAGE not in names:
                raise BenchError(f"apt-get has no way to install {PACKAGE}:\n{plan}")
            target = Path(temporary) / "debs"
            target.mkdir()
            script = 'cd "$0" && exec apt-get -qq -o APT::Sandbox::User=root download "$@"'
            run(["sh", "-c", script, str(target), *names])
            cache.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(target, cache)
        return cache
