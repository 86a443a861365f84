#!/usr/bin/env bash
# Memory and restart of one storage node beside redis-server, with the same data: by default
# 1,000,000 keys of 16 bytes with values of 100. Needs redis-server and redis-cli
# (apt-get install redis-server). Everything lives in one new directory; redis-server listens on a
# socket there and on no port, the others on loopback, on ports of the system's choice.
#
#   bench/beside-redis.sh [KEYS] [ROUNDS]
set -euo pipefail
cd "$(dirname "$0")/.."
keys=${1:-1000000}
rounds=${2:-3}
dir=$(mktemp -d)
redis_pid=''
dev=''
# `dev` ends its node and its manager when it is told to end.
trap 'for pid in $redis_pid $dev; do kill "$pid" 2>/dev/null || true; done; wait; rm -rf "$dir"' EXIT
cargo build --release --quiet --bins
cargo bench --bench engine --no-run --quiet
bench=$(ls -t target/release/deps/engine-* | grep -v '\.d$' | head -n 1)

socket=$dir/redis.sock
start_redis() {
    redis-server --port 0 --unixsocket "$socket" --dir "$dir" --save '' --appendonly yes \
        --appendfsync everysec --aof-use-rdb-preamble no --auto-aof-rewrite-percentage 0 \
        --daemonize no --logfile "$dir/redis.log" &
    redis_pid=$!
    # While it loads it answers LOADING.
    until redis-cli -s "$socket" ping 2>/dev/null | grep -q PONG; do
        kill -0 "$redis_pid" || { cat "$dir/redis.log" >&2; exit 1; }
        sleep 0.05
    done
}
stop_redis() {
    redis-cli -s "$socket" shutdown nosave >/dev/null 2>&1 || true
    wait "$redis_pid" || true
    redis_pid=''
}
rss() { awk '/^VmRSS:/ { print $2 * 1024 }' "/proc/$1/status"; }

echo "== redis-server $(redis-server --version | sed 's/.*v=\([^ ]*\).*/\1/'), $keys keys"
start_redis
empty=$(rss "$redis_pid")
awk -v n="$keys" 'BEGIN {
    v = sprintf("%100s", ""); gsub(/ /, "v", v)
    for (i = 0; i < n; i++)
        printf "*3\r\n$3\r\nSET\r\n$16\r\nkey-%012d\r\n$100\r\n%s\r\n", i, v
}' | redis-cli -s "$socket" --pipe >/dev/null
full=$(rss "$redis_pid")
echo "redis: $((full / keys)) bytes a key resident, $(((full - empty) / keys)) above the empty server"
stop_redis

echo "== the same through a storage node (one node, rep 1)"
./target/release/gtstore dev --nodes 1 --rep 1 --any-ports --no-shell --data-dir "$dir/gt" -o json \
    >"$dir/dev.json" 2>"$dir/dev.err" &
dev=$!
until [ -s "$dir/dev.json" ]; do
    kill -0 "$dev" || { cat "$dir/dev.err" >&2; exit 1; }
    sleep 0.1
done
node=$(sed 's/.*"pid":\([0-9]*\).*/\1/' "$dir/dev.json")
manager=$(sed 's/.*"manager":"\([^"]*\)".*/\1/' "$dir/dev.json")
empty=$(rss "$node")
awk -v n="$keys" 'BEGIN {
    v = sprintf("%100s", ""); gsub(/ /, "v", v)
    for (i = 0; i < n; i++) printf "key-%012d\t%s\n", i, v
}' | ./target/release/gtstore --manager "$manager" import - --format tsv 2>/dev/null >"$dir/import"
grep -q "imported $keys values, 0 failed" "$dir/import" || { cat "$dir/import" >&2; exit 1; }
full=$(rss "$node")
echo "gtstore: $((full / keys)) bytes a key resident, $(((full - empty) / keys)) above the empty node"
kill "$dev"
wait "$dev" || true
dev=''

echo "== reopening, alternating, $rounds rounds"
# The node's own directory, as it left it: with a manifest, and with index files of sealed segments.
for _ in $(seq "$rounds"); do
    : >"$dir/redis.log"
    start_redis
    grep -o 'DB loaded from .*' "$dir/redis.log" | tail -n 1 | sed 's/^/redis: /'
    stop_redis
    "$bench" --open --dir "$dir/gt/node-1" | sed 's/^/gtstore: /'
done
