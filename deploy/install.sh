#!/bin/sh
# Installs, upgrades or removes Shoal on a Debian or Ubuntu machine with systemd.
#
#   install.sh [--wheel FILE] [--wheels DIR] [--lock FILE]
#   install.sh --check
#   install.sh --uninstall [--purge]
#
# --check        only say what on this machine is in the way: another Docker, a firewall, what the kernel lacks;
#                exit code 1 if anything is
# --wheel FILE   the program (default: the only shoal-*.whl beside this script, in DIR or in ../dist)
# --wheels DIR   install without a network: every dependency is a wheel in DIR
# --lock FILE    versions and hashes of the dependencies (default: requirements.lock beside this script)
# --purge        with --uninstall: also remove the node's state and settings
#
# Running it again is safe: it changes only what differs, and restarts the daemons only at the end. Containers go on.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
prefix=/opt/shoal
unit_dir=/usr/local/lib/systemd/system
units="shoal-agent.service shoal-agent.socket shoal-manager.service shoal-manager.socket"
packages="containerd runc crun nftables libnftables1 iproute2 python3 python3-venv ca-certificates"
ports="2377/tcp 7946/tcp 7946/udp 4789/udp 4790/udp"
modules="bridge nf_conntrack nf_nat nf_tables nft_chain_nat nft_ct nft_masq nft_nat nft_numgen veth vxlan"
module_dir=${SHOAL_MODULE_DIR:-/lib/modules/$(uname -r)}
wheel='' wheels='' lock='' check='' uninstall='' purge='' changed='' conflicts=0

say() { printf 'shoal: %s\n' "$*"; }
warn() { printf 'shoal: warning: %s\n' "$*" >&2; }
die() { printf 'shoal: error: %s\n' "$*" >&2; exit 1; }
usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p}' "$0"; }
systemd_runs() { [ -d /run/systemd/system ]; }

parse_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            --wheel | --wheels | --lock)
                [ $# -ge 2 ] || die "$1 needs a value"
                case $1 in
                    --wheel) wheel=$2 ;;
                    --wheels) wheels=$2 ;;
                    --lock) lock=$2 ;;
                esac
                shift 2 ;;
            --check) check=yes; shift ;;
            --uninstall) uninstall=yes; shift ;;
            --purge) purge=yes; shift ;;
            -h | --help) usage; exit 0 ;;
            *) usage >&2; die "unknown argument: $1" ;;
        esac
    done
}

check_machine() {
    [ -r /etc/os-release ] || die "no /etc/os-release: only Debian and Ubuntu are supported"
    # shellcheck source=/dev/null
    family=$(. /etc/os-release; echo "${ID:-} ${ID_LIKE:-}")
    case " $family " in
        *" debian "* | *" ubuntu "*) ;;
        *) die "only Debian and Ubuntu are supported, this is: $family" ;;
    esac
    command -v systemctl >/dev/null || die "systemd is needed: no systemctl here"
}

# What else on the machine works on the same ports or packet filter, and what the kernel lacks: a paragraph each.
name_conflicts() {
    name_docker
    name_ufw
    name_firewalld
    name_forwarding
    name_missing_modules
}

# conflict TEXT COMMAND...: what is in the way, and what to type.
conflict() {
    conflicts=$((conflicts + 1))
    warn "$1"
    shift
    [ $# -eq 0 ] || printf '    %s\n' "$@" >&2
}

docker_answers() { command -v docker >/dev/null && docker -H unix:///var/run/docker.sock "$@" 2>/dev/null; }

name_docker() {
    found=''
    if pid=$(pgrep -o -x dockerd 2>/dev/null || find_process dockerd) && [ -n "$pid" ]; then
        found="dockerd, process $pid"
    elif version=$(docker_answers version --format '{{.Server.Version}}') && [ -n "$version" ]; then
        found="version $version answers at /var/run/docker.sock"
    fi
    [ -n "$found" ] || return 0
    if [ "$(docker_answers info --format '{{.Swarm.LocalNodeState}}')" = active ]; then
        conflict "Docker Engine runs here ($found) and is in a swarm of its own: it holds the ports 2377, 7946 and 4789 and\
 what IPsec (ESP) does with them, and Shoal cannot take part in a swarm beside it. Have it leave:" "docker swarm leave --force"
    else
        conflict "Docker Engine runs here ($found). Both may go on as long as it is in no swarm; 'docker' talks to it and\
 not to Shoal unless DOCKER_HOST says so. If nobody needs it any more:" \
            "systemctl disable --now docker.socket docker.service" "export DOCKER_HOST=unix:///run/shoal/docker.sock"
    fi
}

ufw_is_active() { command -v ufw >/dev/null && LC_ALL=C ufw status 2>/dev/null | grep -q '^Status: active'; }
firewalld_runs() { command -v firewall-cmd >/dev/null && firewall-cmd --state >/dev/null 2>&1; }

name_ufw() {
    ufw_is_active || return 0
    # shellcheck disable=SC2016
    conflict "ufw is active: it drops what the other nodes send to $(listed "$ports"), by ESP (protocol 50, of encrypted\
 networks), and what containers and published ports forward. With the addresses of the other nodes:" \
        'for node in ADDRESS ADDRESS; do' \
        '    ufw allow proto tcp from $node to any port 2377,7946' \
        '    ufw allow proto udp from $node to any port 7946,4789,4790' \
        '    ufw allow proto esp from $node to any' \
        'done' \
        'for interface in docker_gwbridge shoal_ing; do' \
        '    ufw route allow in on $interface' \
        '    ufw route allow out on $interface' \
        'done'
}

name_firewalld() {
    firewalld_runs || return 0
    # shellcheck disable=SC2016
    conflict "firewalld is active: it rejects what the other nodes send to $(listed "$ports"), by ESP (protocol 50, of\
 encrypted networks), and what containers forward. With the addresses of the other nodes:" \
        'firewall-cmd --permanent --new-zone=shoal' \
        "for port in $ports; do firewall-cmd --permanent --zone=shoal --add-port=\$port; done" \
        'firewall-cmd --permanent --zone=shoal --add-protocol=esp' \
        'for node in ADDRESS ADDRESS; do firewall-cmd --permanent --zone=shoal --add-source=$node; done' \
        'firewall-cmd --permanent --zone=trusted --add-interface=docker_gwbridge --add-interface=shoal_ing' \
        'firewall-cmd --reload'
}

# Docker leaves FORWARD at DROP, also when it is stopped; ufw's own way is named above.
name_forwarding() {
    ufw_is_active && return 0
    { command -v iptables >/dev/null && iptables -S FORWARD 2>/dev/null | grep -q '^-P FORWARD DROP'; } || return 0
    chain=FORWARD
    ! iptables -S DOCKER-USER >/dev/null 2>&1 || chain=DOCKER-USER
    who='something'
    ! ip link show docker0 >/dev/null 2>&1 || who='Docker (docker0 is here)'
    conflict "$who has set iptables to drop forwarded packets: containers have no way out, and published ports lead\
 nowhere. After each start of the machine:" \
        'for interface in docker_gwbridge shoal_ing; do' \
        "    iptables -I $chain -i \$interface -j ACCEPT" \
        "    iptables -I $chain -o \$interface -j ACCEPT" \
        'done'
}

# Said only of a kernel whose modules lie here: in a container they don't, whatever the kernel has.
name_missing_modules() {
    { [ -r "$module_dir/modules.dep" ] && command -v modprobe >/dev/null; } || return 0
    missing=''
    for module in $modules; do
        modprobe --dry-run --quiet "$module" || missing="$missing $module"
    done
    [ -n "$missing" ] || return 0
    conflict "the kernel ($(uname -r)) lacks$missing: without these overlay networks, balancers or the way out of containers\
 cannot be set up. Install the distribution's full kernel and restart the machine:" \
        "apt-get install linux-image-$(dpkg --print-architecture 2>/dev/null || echo amd64)   # Debian" \
        "apt-get install linux-modules-extra-$(uname -r)   # Ubuntu"
}

listed() { printf '%s' "$1" | sed 's/ /, /g; s/\(.*\), /\1 and /'; }

find_process() {
    for file in /proc/[0-9]*/comm; do
        if [ "$(cat "$file" 2>/dev/null)" = "$1" ]; then
            basename "$(dirname "$file")"
            return 0
        fi
    done
    return 1
}

install_packages() {
    missing=''
    for package in $packages; do
        state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$state" = installed ] && continue
        # Docker's own packages bring containerd and runc too.
        case $package in
            containerd) command -v containerd >/dev/null && continue ;;
            runc) command -v runc >/dev/null && continue ;;
        esac
        missing="$missing $package"
    done
    if [ -n "$missing" ]; then
        say "installing packages:$missing"
        export DEBIAN_FRONTEND=noninteractive
        # shellcheck disable=SC2086
        apt-get -qq install -y --no-install-recommends $missing >/dev/null 2>&1 || {
            apt-get -qq update || warn "apt-get update failed; going on with the lists that are there"
            apt-get -qq install -y --no-install-recommends $missing >/dev/null
        }
    fi
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "Python 3.11 or newer is needed, here is $(python3 --version 2>&1)"
}

find_wheel() {
    if [ -z "$wheel" ]; then
        set --
        for directory in "$here" ${wheels:+"$wheels"} "$here/../dist"; do
            for file in "$directory"/shoal-*.whl; do
                [ -f "$file" ] && set -- "$@" "$file"
            done
        done
        [ $# -ge 1 ] || die "no shoal-*.whl found: name it with --wheel"
        [ $# -eq 1 ] || die "more than one wheel found ($*): name one with --wheel"
        wheel=$1
    fi
    [ -f "$wheel" ] || die "no such file: $wheel"
    [ -z "$wheels" ] || [ -d "$wheels" ] || die "no such directory: $wheels"
    lock=${lock:-$here/requirements.lock}
    [ -f "$lock" ] || die "no such file: $lock"
}

install_program() {
    stamp=$(cat "$wheel" "$lock" | sha256sum | cut -d ' ' -f 1)-$(python3 -c 'import sys; print(sys.version.split()[0])')
    if [ "$(cat "$prefix/.installed" 2>/dev/null)" = "$stamp" ]; then
        say "program is up to date"
        return
    fi
    say "installing $(basename "$wheel") into $prefix"
    changed=yes
    # Built aside and swapped in, so that a failure half-way leaves the old program whole. The scripts in it name
    # their interpreter by its final path.
    rm -rf "$prefix.new"
    python3 -m venv "$prefix.new"
    if [ -n "$wheels" ]; then
        set -- --no-index --find-links "$wheels"
    else
        set --
    fi
    pip="$prefix.new/bin/python -m pip --quiet --disable-pip-version-check --no-cache-dir install --no-compile"
    $pip "$@" --require-hashes --only-binary :all: -r "$lock" || die "dependencies could not be installed"
    $pip "$@" --no-deps "$wheel" || die "the wheel could not be installed"
    find "$prefix.new/bin" -type f -exec sed -i "1s|^#!$prefix.new/|#!$prefix/|" {} +
    sed -i "s|$prefix.new|$prefix|g" "$prefix.new/pyvenv.cfg" "$prefix.new"/bin/activate*
    printf '%s\n' "$stamp" >"$prefix.new/.installed"
    rm -rf "$prefix.old"
    [ ! -e "$prefix" ] || mv "$prefix" "$prefix.old"
    mv "$prefix.new" "$prefix"
    rm -rf "$prefix.old"
    "$prefix/bin/python" -m compileall -q -j 0 "$prefix/lib" || warn "byte code could not be written"
}

# put SOURCE TARGET: copies when the content differs.
put() {
    if ! cmp -s "$1" "$2"; then
        install -D -m 0644 "$1" "$2"
        changed=yes
    fi
}

install_files() {
    getent group docker >/dev/null || groupadd --system docker
    install -d -m 0755 /etc/shoal
    install -d -m 0700 /var/lib/shoal /var/lib/shoal/agent /var/lib/shoal/manager
    for unit in $units; do
        put "$here/systemd/$unit" "$unit_dir/$unit"
    done
    put "$here/systemd/containerd-shoal.conf" "$unit_dir/containerd.service.d/shoal.conf"
    put "$here/systemd/shoal.tmpfiles" /etc/tmpfiles.d/shoal.conf
    ln -sfn "$prefix/bin/shoal" /usr/local/bin/shoal
}

start() {
    if ! systemd_runs; then
        systemctl --quiet enable containerd.service shoal-agent.service shoal-agent.socket shoal-manager.socket
        say "installed and enabled; systemd does not run here, so nothing was started"
        return
    fi
    systemd-tmpfiles --create /etc/tmpfiles.d/shoal.conf
    systemctl daemon-reload
    systemctl --quiet enable containerd.service shoal-agent.service shoal-agent.socket shoal-manager.socket
    # The drop-in takes effect by daemon-reload alone: a running containerd is left running.
    systemctl start containerd.service shoal-agent.socket shoal-manager.socket ||
        die "units failed to start: see journalctl -u containerd -u shoal-agent.socket"
    if [ -n "$changed" ]; then
        say "restarting the daemons (containers go on)"
        systemctl try-restart shoal-manager.service
        systemctl restart shoal-agent.service || failed_to_start
    else
        systemctl start shoal-agent.service || failed_to_start
    fi
    say "shoal is installed and running: try 'shoal info' or 'shoal swarm init'"
}

failed_to_start() {
    journalctl --no-pager -n 20 -u shoal-agent.service >&2 || true
    die "the agent does not start: its last lines are above"
}

uninstall() {
    if systemd_runs; then
        say "stopping the daemons"
        # shellcheck disable=SC2086
        systemctl stop $units 2>/dev/null || true
    fi
    # shellcheck disable=SC2086
    systemctl --quiet disable $units 2>/dev/null || true
    for unit in $units; do
        rm -f "$unit_dir/$unit"
    done
    rm -f "$unit_dir/containerd.service.d/shoal.conf" /etc/tmpfiles.d/shoal.conf
    rmdir "$unit_dir/containerd.service.d" 2>/dev/null || true
    [ ! -L /usr/local/bin/shoal ] || rm -f /usr/local/bin/shoal
    rm -rf "$prefix" "$prefix.new" "$prefix.old"
    if systemd_runs; then
        systemctl daemon-reload
    fi
    if [ -n "$purge" ]; then
        rm -rf /var/lib/shoal /etc/shoal
        say "removed, with its state and settings"
    else
        say "removed; /var/lib/shoal and /etc/shoal are kept (--purge removes them)"
    fi
    say "containerd and its containers were left alone; a restart of the machine ends what still runs"
}

main() {
    parse_arguments "$@"
    [ "$(id -u)" = 0 ] || die "must be run as root"
    if [ -n "$check" ]; then
        name_conflicts
        [ "$conflicts" = 0 ] || exit 1
        say "nothing is in the way here"
        return
    fi
    check_machine
    if [ -n "$uninstall" ]; then
        uninstall
        return
    fi
    name_conflicts
    install_packages
    find_wheel
    install_program
    install_files
    start
}

main "$@"
