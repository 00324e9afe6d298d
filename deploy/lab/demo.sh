#!/usr/bin/env bash
# `make up`: three machines, a swarm typed in their shells, a service behind the routing mesh. Again: changes nothing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lab=$here/lab
manager=10.99.0.1
replicas=5

bold='' dim='' plain='' quiet=(--quiet)
if [ -t 1 ]; then
    bold=$'\033[1m' dim=$'\033[2m' plain=$'\033[0m' quiet=()
fi

say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
die() { printf 'make up: %s\n' "$*" >&2; exit 1; }

# on MACHINE COMMAND…: types a command in a machine's shell.
on() { "$lab" exec "$@"; }
# typed MACHINE COMMAND…: the same, shown as in a terminal.
typed() {
    printf '%sroot@%s:~#%s %s\n' "$dim" "$1" "$plain" "${*:2}"
    on "$@"
}

in_swarm() { [ "$(on "$1" shoal info --format '{{.Swarm.LocalNodeState}}')" = active ]; }

# until_true SECONDS WHAT COMMAND…: waits for a condition.
until_true() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || die "$what: still not so; see 'deploy/lab/lab logs manager -u shoal-manager -u shoal-agent'"
        sleep 0.2
    done
}

nodes_ready() { [ "$(on manager shoal node ls --format '{{.Status}}' | grep -c '^Ready$')" -ge 3 ]; }
service_running() {
    [ "$(on manager shoal service ls --filter name=my-nginx --format '{{.Name}} {{.Replicas}}')" = "my-nginx $replicas/$replicas" ]
}
answers() { on outside curl --silent --fail --max-time 3 --output /dev/null "http://$1/"; }

[ "$(id -u)" = 0 ] || die "run as root: it makes machines, networks and control groups"
"$here/host-packages.sh"
"$lab" up

say "The swarm"
in_swarm manager || typed manager shoal swarm init --advertise-addr "$manager"
token=$(on manager shoal swarm join-token --quiet worker)
for worker in worker1 worker2; do
    in_swarm "$worker" || typed "$worker" shoal swarm join --token "$token" "$manager:2377"
done
until_true 60 "three nodes Ready" nodes_ready

say "The service"
on manager shoal network inspect nginx-net >/dev/null 2>&1 ||
    typed manager shoal network create --driver overlay nginx-net
on manager shoal service inspect my-nginx >/dev/null 2>&1 ||
    typed manager shoal service create --name my-nginx --publish target=80,published=80 --replicas="$replicas" \
        --network nginx-net "${quiet[@]}" nginx
until_true 60 "$replicas/$replicas tasks running" service_running

say "Nodes and tasks"
typed manager shoal node ls
typed manager shoal service ls
typed manager shoal service ps my-nginx

say "From outside, by each node's address"
for node in manager worker1 worker2; do
    address=$("$lab" env | sed -n "s/^export LAB_ADDR_${node^^}=//p")
    until_true 30 "an answer from $node" answers "$address"
    printf '%-8s http://%s/  ' "$node" "$address"
    on outside curl --silent --show-error --max-time 5 "http://$address/" | sed -n 's|.*<title>\(.*\)</title>.*|\1|p'
done

say "Up. The machines' shells: deploy/lab/lab exec manager bash. The host's docker: eval \"\$(deploy/lab/lab env)\", then docker -H \$DOCKER_HOST_MANAGER node ls. All away again: make down."
