#!/bin/sh
# Starts workers on the router's machine, for apps with `max`:
#
#   PATH="$PWD/target/release:$PATH" warmq-router --scale-hook deploy/examples/scale-hook.sh
#
# The router calls it as `scale-hook.sh APP WANTED`. It starts `warmq-worker`, which must be in the
# router's PATH, until WANTED of them run, besides those that drain, and ends none: the router
# drains those that are not needed, and their processes exit. The workers, of one runner each, read
# the router's warmq.toml and environment (so one engine for all apps: WARMQ_ENGINE, WARMQ_MODELS,
# …), and the app from WARMQ_APP. Their logs are in scaled/APP, in the router's working directory.
set -eu
app=$1 wanted=$2

fail() { # its last line is in the router's log and in `scaling.now.hook_error`
    echo "scale-hook.sh: $*" >&2
    exit 1
}

command -v warmq-worker >/dev/null || fail 'warmq-worker is not in the PATH of the router'

# Each worker holds the lock of its slot for as long as it lives.
slots=scaled/$app
mkdir -p "$slots"

is_free() { flock --nonblock "$1" true; }

running=$((-WARMQ_DRAINING))
for slot in "$slots"/*.lock; do
    if [ -e "$slot" ] && ! is_free "$slot"; then running=$((running + 1)); fi
done

number=0 started=
while [ "$running" -lt "$wanted" ]; do
    number=$((number + 1))
    slot=$slots/$number.lock
    is_free "$slot" || continue
    # A session of its own, so that it outlives hook and router; the hook's output is not its.
    setsid flock --nonblock --no-fork "$slot" warmq-worker \
        >>"$slots/$number.log" 2>&1 </dev/null &
    started="$started $number:$!"
    running=$((running + 1))
done

# A worker with a configuration mistake ends at once.
[ -z "$started" ] || sleep 1
for worker in $started; do
    log=$slots/${worker%:*}.log
    kill -0 "${worker#*:}" 2>/dev/null ||
        fail "a worker ended: $(tail -n 1 "$log") (log: $PWD/$log)"
done
