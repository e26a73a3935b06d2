#!/bin/sh
# Stops what deploy/up.sh started, and nothing else: SIGTERM, then SIGKILL (which costs nothing but time: a killed
# runner's job is given to another). A worker gives its running job 30 s by itself; 45 s leave room to hand it back.
set -eu
cd "$(dirname "$0")/.."
. deploy/processes.sh

stop() { # NAME
    if ! runs "$1"; then
        say "$1 does not run"
        rm -f "$run/$1.pid"
        return
    fi
    process=$(pid "$1")
    kill -TERM "$process" 2>/dev/null || true
    waited=0
    while runs "$1"; do
        if [ $waited -eq 45 ]; then
            say "$1 has not ended after 45 s; killing it"
            kill -KILL "$process" 2>/dev/null || true
        elif [ $waited -eq 50 ]; then
            say "$1 (pid $process) cannot be killed" && exit 1
        fi
        sleep 1
        waited=$((waited + 1))
    done
    rm -f "$run/$1.pid"
    say "$1 stopped"
}

# Workers first: the router is still there to hear of their last results.
for name in worker-1 worker-2 router; do
    stop $name
done
