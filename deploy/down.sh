#!/bin/sh
# Stops the processes of deploy/up.sh: SIGTERM, then SIGKILL (a killed runner's job is run by another).
# A worker waits 30 s for its running job; 45 s leave time to requeue it.
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

# Workers first, so that the router receives their last results.
for name in worker-1 worker-2 router; do
    stop $name
done
