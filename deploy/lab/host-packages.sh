#!/bin/sh
# Installs what the host of a lab needs and lacks. Called by `make` and by demo.sh; quick when all is there.
# With --tests also what only the tests need: serf, to talk to. With --vm what virtual machines need.
set -eu

missing=''
# need COMMAND PACKAGE: the command tells whether the package is needed, so that other sources of it count too.
need() {
    command -v "$1" >/dev/null || missing="$missing $2"
}

need systemd-nspawn systemd-container
need mmdebstrap mmdebstrap
need docker-registry docker-registry
need docker docker.io
need nft nftables
need ip iproute2
need curl curl
if [ "${1:-}" = --tests ]; then need serf serf; fi
if [ "${1:-}" = --vm ]; then
    need qemu-system-x86_64 qemu-system-x86
    need qemu-img qemu-utils
    need busybox busybox-static
fi
python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3 python3-venv"
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing="$missing debian-archive-keyring"
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
[ -n "$missing" ] || exit 0

[ "$(id -u)" = 0 ] || { echo "run as root, or first: apt-get install$missing" >&2; exit 1; }
echo "installing packages of the host:$missing" >&2
export DEBIAN_FRONTEND=noninteractive

# Only programs are wanted: no daemon of these packages is to start on the host.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
# shellcheck disable=SC2086
apt-get -qq install -y --no-install-recommends $missing >/dev/null 2>&1 || {
    apt-get -qq update || echo "apt-get update failed; going on with the lists that are there" >&2
    # shellcheck disable=SC2086
    apt-get -qq install -y --no-install-recommends $missing >/dev/null
}
# Its package means it to run at every start; here it only serves tests.
case "$missing" in *" serf"*) rm -f /etc/systemd/system/multi-user.target.wants/serf.service ;; esac
