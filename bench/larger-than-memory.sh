#!/usr/bin/env bash
# One storage node whose data is several times its cache: loaded, half of it overwritten so that
# compaction has work, then read at random. Tells its resident memory, the size of its log beside
# what of it is live, and how long requests took. Everything listens on loopback, on ports of the
# system's choice, and lives in one new directory (below $TMPDIR, else /tmp).
#
#   bench/larger-than-memory.sh [TIMES] [CACHE_MIB] [SECONDS]
#
# TIMES: data over cache (8). CACHE_MIB: the cache (32). SECONDS: of each load of requests (15).
# The goals: memory bounded by cache, index and about 100 MB; p99.9 of requests at most 50 ms.
set -euo pipefail
cd "$(dirname "$0")/.."
times=${1:-8}
cache_mib=${2:-32}
seconds=${3:-15}
value_bytes=1000
keys=$((times * cache_mib * 1024 * 1024 / (value_bytes + 16)))
dir=$(mktemp -d)
dev=''
# `dev` ends its node and its manager when it is told to end.
trap '[ -z "$dev" ] || kill "$dev" 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
cargo build --release --quiet --bins

./target/release/gtstore dev --nodes 1 --rep 1 --any-ports --cache-bytes "${cache_mib}MiB" \
    --no-shell --data-dir "$dir/gt" -o json >"$dir/dev.json" 2>"$dir/dev.err" &
dev=$!
until [ -s "$dir/dev.json" ]; do
    kill -0 "$dev" 2>/dev/null || { cat "$dir/dev.err" >&2; exit 1; }
    sleep 0.1
done
node=$(sed 's/.*"pid":\([0-9]*\).*/\1/' "$dir/dev.json")
manager=$(sed 's/.*"manager":"\([^"]*\)".*/\1/' "$dir/dev.json")

figure() { ./target/release/gtstore --manager "$manager" status -o json | grep -o "\"$1\":[0-9]*" | tail -n 1 | sed 's/.*://'; }
memory() { awk -v field="$1:" '$1 == field { print $2 * 1024 }' "/proc/$node/status"; }
log_bytes() { find "$dir/gt/node-1" -name 'log-*' -printf '%s\n' 2>/dev/null | awk '{ sum += $1 } END { printf "%d", sum }'; }
mib() { awk -v bytes="$1" 'BEGIN { printf "%.1f MiB", bytes / 1048576 }'; }
tell() {
    sleep 1 # a node reports its keys every half second
    local live log
    live=$(figure bytes)
    log=$(log_bytes)
    echo "   resident $(mib "$(memory VmRSS)"), peak $(mib "$(memory VmHWM)"); $(figure keys) keys," \
        "$(mib "$live") of keys and values; log $(mib "$log"), $((log * 100 / (live + 1))) % of that"
}
# Requests, and how long they took.
load() {
    local what=$1 told kind row
    shift
    told=$(./target/release/gtstore-load --manager "$manager" --keys "$keys" --value-bytes "$value_bytes" \
        -o json "$@" 2>/dev/null) || { echo "$what: there were errors: $told" >&2; exit 1; }
    for kind in put get; do
        row=$(grep -o "\"$kind\":{[^}]*}" <<<"$told" | tr -d '{}"' | sed "s/^$kind://")
        awk -v what="$what" -v kind="$kind" -v row="$row" 'BEGIN {
            n = split(row, pairs, ",")
            for (i = 1; i <= n; i++) { split(pairs[i], pair, ":"); at[pair[1]] = pair[2] / 1000 }
            if (at["count"] > 0)
                printf "== %s: %d %ss; p50 %.2f ms, p99 %.2f, p99.9 %.2f, max %.2f\n", what,
                    at["count"] * 1000, kind, at["p50_us"], at["p99_us"], at["p999_us"], at["max_us"]
        }'
    done
    tell
}

echo "$keys keys of up to 11 bytes with values of $value_bytes: $times times a cache of $cache_mib MiB"
echo "== the node is empty"
tell
load "loading" --ratio 0 --ops $((keys * 3))
load "overwriting" --ratio 0 --ops "$keys"
# Out of the page cache with it, so that the first reads are the disk's.
sync "$dir"/gt/node-1/log-*
for file in "$dir"/gt/node-1/log-*; do
    dd if="$file" iflag=nocache count=0 status=none || true
done
load "reading" --ratio 1 --duration "$seconds"
load "reading and overwriting" --ratio 0.5 --duration "$seconds"
