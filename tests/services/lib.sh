# shellcheck shell=bash
# lib.sh - sourced by the build.sh and start.sh scripts here. bash only.
# SERVICES_CACHE: built programs live here, one folder per name and version.
set -euo pipefail
: "${SERVICES_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/pillion-services}"
export SERVICES_CACHE
HERE=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
NICE="nice -n ${SERVICES_NICE:-5}"

die() { echo "$(basename "$HERE"): $*" >&2; exit 1; }

# lock_cache: one build at a time; the lock goes with the script.
lock_cache() {
    mkdir -p "$SERVICES_CACHE"
    exec 9>"$SERVICES_CACHE/.lock"
    flock 9
}

# build_go OUT PACKAGE [go build flags]: builds PACKAGE in the module of the current folder into OUT.
# go.sum is made anew each time: the versions are pinned in go.mod and checked against the checksum database.
# GO_CACHE (default $SERVICES_CACHE/go) holds sources and objects; it may be removed once all is built.
build_go() {
    local out=$1 pkg=$2 work
    shift 2
    lock_cache
    [ -x "$out" ] && return 0
    mkdir -p "$(dirname "$out")"
    work=$(mktemp -d)
    cp -r "$HERE/." "$work/"
    export GOMODCACHE=${GO_CACHE:-$SERVICES_CACHE/go}/mod GOCACHE=${GO_CACHE:-$SERVICES_CACHE/go}/build
    (cd "$work" && CGO_ENABLED=0 GOFLAGS=-mod=mod $NICE go build -trimpath -ldflags '-s -w' "$@" -o "$out.new" "$pkg")
    mv "$out.new" "$out"
    rm -rf "$work"
}

# as_daemon DIR COMMAND...: runs COMMAND in a process group of its own, output to DIR/log, its pid to DIR/pid.
as_daemon() {
    local dir=$1
    shift
    mkdir -p "$dir"
    setsid "$@" </dev/null >"$dir/log" 2>&1 &
    echo $! >"$dir/pid"
}

# wait_for SECONDS DIR COMMAND...: repeats COMMAND until it succeeds; gives up when the time is over or DIR/pid has ended.
wait_for() {
    local end=$((SECONDS + $1)) dir=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ! kill -0 "$(cat "$dir/pid")" 2>/dev/null || [ $SECONDS -ge $end ]; then
            tail -n 40 "$dir/log" >&2
            die "not ready: $*"
        fi
        sleep 0.05
    done
}

http_ok() { curl -fsS -m 2 "$@"; }
