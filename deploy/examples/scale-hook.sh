#!/bin/sh
# Starts workers on the router's machine, for apps with `max`:
#
#   warmq-router --scale-hook deploy/examples/scale-hook.sh
#
# The router calls it as `scale-hook.sh APP WANTED`. It starts `warmq-worker` until WANTED of them
# run, besides those that drain, and ends none: the router drains those that are not needed, and
# their processes exit. The workers, of one runner each, read the router's warmq.toml and
# environment, and the app from WARMQ_APP.
set -eu
app=$1 wanted=$2

# Each worker holds the lock of its slot for as long as it lives.
slots=scaled/$app
mkdir -p "$slots"

is_free() { flock --nonblock "$1" true; }

running=$((-WARMQ_DRAINING))
for slot in "$slots"/*.lock; do
    if [ -e "$slot" ] && ! is_free "$slot"; then running=$((running + 1)); fi
done

number=0
while [ "$running" -lt "$wanted" ]; do
    number=$((number + 1))
    slot=$slots/$number.lock
    is_free "$slot" || continue
    # A session of its own, so that it outlives hook and router; the hook's output is not its.
    setsid flock --nonblock --no-fork "$slot" warmq-worker \
        >>"$slots/$number.log" 2>&1 </dev/null &
    running=$((running + 1))
done
