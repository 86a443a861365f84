#!/usr/bin/env bash
# Memory and restart of one storage node beside redis-server, with the same data: by default
# 1,000,000 keys of 16 bytes with values of 100. Needs redis-server and redis-cli
# (apt-get install redis-server); everything listens on loopback and lives in one new directory.
#
#   bench/beside-redis.sh [KEYS] [ROUNDS]
set -euo pipefail
cd "$(dirname "$0")/.."
keys=${1:-1000000}
rounds=${2:-3}
dir=$(mktemp -d)
redis_pid=''
trap '[ -z "$redis_pid" ] || kill "$redis_pid" 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
cargo build --release --quiet --bins
cargo bench --bench engine --no-run --quiet
bench=$(ls -t target/release/deps/engine-* | grep -v '\.d$' | head -n 1)

port=$((20000 + RANDOM % 20000))
start_redis() {
    redis-server --port "$port" --bind 127.0.0.1 --dir "$dir" --save '' --appendonly yes \
        --appendfsync everysec --aof-use-rdb-preamble no --auto-aof-rewrite-percentage 0 \
        --daemonize no --logfile "$dir/redis.log" &
    redis_pid=$!
    until redis-cli -p "$port" ping 2>/dev/null | grep -q PONG; do sleep 0.05; done
}
stop_redis() {
    redis-cli -p "$port" shutdown nosave >/dev/null 2>&1 || true
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
}' | redis-cli -p "$port" --pipe >/dev/null
full=$(rss "$redis_pid")
echo "redis: $((full / keys)) bytes a key resident, $(((full - empty) / keys)) above the empty server"
stop_redis

echo "== the same through a storage node (one node, rep 1)"
./target/release/gtstore dev --nodes 1 --rep 1 --no-shell --data-dir "$dir/gt" -o json >"$dir/dev.json" &
dev=$!
until [ -s "$dir/dev.json" ]; do sleep 0.1; done
node=$(sed 's/.*"pid":\([0-9]*\).*/\1/' "$dir/dev.json")
manager=$(sed 's/.*"manager":"\([^"]*\)".*/\1/' "$dir/dev.json")
empty=$(rss "$node")
awk -v n="$keys" 'BEGIN {
    v = sprintf("%100s", ""); gsub(/ /, "v", v)
    for (i = 0; i < n; i++) printf "key-%012d\t%s\n", i, v
}' | ./target/release/gtstore --manager "$manager" import - --format tsv >/dev/null
full=$(rss "$node")
echo "gtstore: $((full / keys)) bytes a key resident, $(((full - empty) / keys)) above the empty node"
kill "$dev"; wait "$dev" || true

echo "== reopening, alternating, $rounds rounds"
"$bench" --keys "$keys" --dir "$dir/engine" --fill >/dev/null
"$bench" --open --dir "$dir/engine/engine" >/dev/null # builds what a running node has built long before
for _ in $(seq "$rounds"); do
    : >"$dir/redis.log"
    start_redis
    grep -o 'DB loaded from .*' "$dir/redis.log" | tail -n 1 | sed 's/^/redis: /'
    stop_redis
    "$bench" --open --dir "$dir/engine/engine" | sed 's/^/gtstore: /'
done
