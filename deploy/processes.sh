# shellcheck shell=sh
# What up.sh and down.sh share: where process ids are kept, and which process is ours.

run=.run

say() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*"; }

pid() { cat "$run/$1.pid" 2>/dev/null; }

# Whether NAME (router, worker-1, …) runs. The program's name is compared, since after a reboot
# a pid file may hold the number of a stranger.
runs() { # NAME
    case $(readlink "/proc/$(pid "$1" || echo none)/exe" 2>/dev/null) in
    */warmq-"${1%%-*}" | */warmq-"${1%%-*} (deleted)") return 0 ;; # deleted: rebuilt since
    *) return 1 ;;
    esac
}
