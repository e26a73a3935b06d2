#!/bin/sh
# Starts one router and two workers that stay, or leaves those that already run. `deploy/down.sh` stops them.
#
# Process ids and logs are in .run; every WARMQ_* variable reaches the processes as usual.
set -eu
cd "$(dirname "$0")/.."
. deploy/processes.sh

listen=${WARMQ_LISTEN:-127.0.0.1:8080}
scheme=http
[ -z "${WARMQ_TLS_CERT:-}" ] || scheme=https
url=$scheme://$listen
mkdir -p "$run"

give_up() { # NAME: the log says why better than we could
    say "$1 ended; the last lines of $run/$1.log:"
    tail -n 20 "$run/$1.log" >&2
    exit 1
}

start() { # NAME COMMAND…
    name=$1
    shift
    if runs "$name"; then
        say "$name already runs (pid $(pid "$name"))"
        return
    fi
    [ -x "$1" ] || { say "$1 is not built; run: make build" && exit 1; }
    # A session of its own, so that Ctrl-C in this terminal does not reach it.
    setsid "$@" </dev/null >>"$run/$name.log" 2>&1 &
    echo $! >"$run/$name.pid"
    say "$name started (pid $!)"
}

if ! runs router && python3 deploy/probe.py "$url/healthz" >/dev/null; then
    say "another server already answers at $url; stop it, or set WARMQ_LISTEN"
    exit 1
fi
start router target/release/warmq-router --listen "$listen"
(
    # With these, an app can call other apps. They are not the keys of the user who starts it.
    unset WARMQ_ADMIN_KEY
    # shellcheck disable=SC2030 # they are for the workers alone
    export WARMQ_URL="$url" WARMQ_KEY="${WARMQ_WORKER_KEY:-any}"
    for n in 1 2; do
        start worker-$n target/release/warmq-worker --app warmq/diffusion --engine diffusion --models models --memory-budget 40MiB
    done
)

waited=0
until answer=$(python3 deploy/probe.py "$url/readyz"); do
    runs router || give_up router
    [ $waited -lt 60 ] || { say "the router is not ready after 60 s: $answer; see $run/router.log" && exit 1; }
    sleep 1
    waited=$((waited + 1))
done
registered() { # how many workers are, or `unseen` if the router requires a key with scope watch
    # shellcheck disable=SC2031 # ours, not the workers'
    key=${WARMQ_KEY:-${WARMQ_ADMIN_KEY:-any}} python3 -c 'import json, os, sys, urllib.error, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"Authorization": "Key " + os.environ["key"]})
try:
    print(len(json.load(urllib.request.urlopen(request, timeout=5))["runners"]))
except urllib.error.HTTPError as error:
    print("unseen" if error.code in (401, 403) else 0)' "$url/v1/runners" 2>/dev/null || echo 0
}
# The app exists once a worker has registered it: from here on, a job can be submitted.
until workers=$(registered) && { [ "$workers" = unseen ] || [ "$workers" -ge 2 ]; }; do
    for name in router worker-1 worker-2; do
        runs $name || give_up $name
    done
    [ $waited -lt 60 ] || { say "the workers have not registered after 60 s; see $run/worker-*.log" && exit 1; }
    sleep 1
    waited=$((waited + 1))
done
if [ "$workers" = unseen ]; then
    say "the router requires keys: set WARMQ_KEY to one with scope watch to wait for the workers"
fi
say "ready: $url; logs in $run; stop with: make down"
