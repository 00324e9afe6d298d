#!/usr/bin/env bash
# Installs on this host, from Debian's packages, whatever the lab, the tests and the build need and lack.
# Nothing that comes with them is left running: their services are masked until the next boot of the host.
set -euo pipefail

declare -A provides=(
    [systemd-nspawn]=systemd-container [mmdebstrap]=mmdebstrap [docker-registry]=docker-registry
    [nft]=nftables [ip]=iproute2 [nsenter]=util-linux [containerd]=containerd [runc]=runc [docker]=docker.io
    [curl]=curl [dpkg-deb]=dpkg
)
missing=()
for tool in "${!provides[@]}"; do
    command -v "$tool" >/dev/null || missing+=("${provides[$tool]}")
done
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
ldconfig -p | grep -q 'libnftables\.so\.1' || missing+=(libnftables1)
[ -e /usr/share/doc/busybox-static ] || missing+=(busybox-static)
[ ${#missing[@]} -gt 0 ] || exit 0

[ "$(id -u)" = 0 ] || { echo "run as root, or install: ${missing[*]}" >&2; exit 1; }
echo "installing: ${missing[*]}" >&2
if [ -d /run/systemd/system ]; then
    systemctl mask --quiet --runtime docker.service docker.socket docker-registry.service containerd.service
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get -qq update && apt-get -qq install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -20 "$log" >&2
    exit 1
fi
