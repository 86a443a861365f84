#!/usr/bin/env bash
# One of five nodes stands still (SIGSTOP) for a while under load: what that costs.
#
#   bench/stopped-node.sh [--seconds 60] [--percent 30]
#
# Prints throughput, p50 and p99 of gets and puts, and errors: with all nodes, and with one of five
# stopped from the second second on; and the most memory that a node that went on had. R = W = 2 of
# 3 copies. The peak is measured first (50 connections, 8 requests in flight on each); the load is
# that share of it, offered at an even rate, and times count from when each request was to begin.
# Needs a release build and python3.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=60
percent=30
while [ $# -gt 0 ]; do
  case "$1" in
    --seconds) seconds="${2:?--seconds takes a number}"; shift ;;
    --percent) percent="${2:?--percent takes a number}"; shift ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
  shift
done

bin=target/release
ready=$(mktemp)
"$bin/gtstore" dev --nodes 5 --rep 3 --any-ports --no-shell -o json >"$ready" 2>/dev/null &
dev=$!
trap 'kill "$dev" 2>/dev/null; wait "$dev" 2>/dev/null || true; rm -f "$ready" "$ready".*' EXIT
until [ -s "$ready" ]; do sleep 0.1; done
field() { python3 -c "import json,sys; print(json.load(open('$ready'))$1)"; }
GTSTORE_MANAGER=$(field "['manager']")
export GTSTORE_MANAGER
stopped=$(field "['nodes'][4]['pid']")

load() { "$bin/gtstore-load" --keys 50000 --ratio 0.5 -o json "$@" 2>/dev/null || true; }
load --ratio 0 --ops 100000 >/dev/null
load --conns 50 --pipeline 8 --duration 10 >"$ready.peak"
rate=$(python3 -c "import json; print(round(json.load(open('$ready.peak'))['ops_per_second'] * $percent / 100))")
load --conns 50 --pipeline 8 --rate "$rate" --duration "$seconds" >"$ready.before"
load --conns 50 --pipeline 8 --rate "$rate" --duration "$seconds" >"$ready.during" &
loading=$!
sleep 2
kill -STOP "$stopped"
most=0
for _ in $(seq "$((seconds - 4))"); do
  sleep 1
  for node in 0 1 2 3; do
    kib=$(awk '/VmRSS/ {print $2}' "/proc/$(field "['nodes'][$node]['pid']")/status")
    [ "$kib" -gt "$most" ] && most=$kib
  done
done
kill -CONT "$stopped"
wait "$loading"
python3 - "$ready" "$most" <<'P'
import json, sys
peak, before, during = (json.load(open(f"{sys.argv[1]}.{name}")) for name in ("peak", "before", "during"))
for name, told in (("peak", peak), ("all nodes", before), ("one of five stopped", during)):
    get, put = told["get"], told["put"]
    print(f"{name:<20} {told['ops_per_second']:>8.0f} ops/s   get p50 {get['p50_us']/1e3:.2f} p99 {get['p99_us']/1e3:.2f} ms"
          f"   put p50 {put['p50_us']/1e3:.2f} p99 {put['p99_us']/1e3:.2f} ms"
          f"   errors {told['error_count']}   asked again {told['asked_again']}")
rate = lambda told: told["ops_per_second"]
ratio = lambda kind: during[kind]["p99_us"] / before[kind]["p99_us"]
print(f"load {rate(before) / rate(peak):.0%} of the peak; stopped: throughput {rate(during) / rate(before):.0%},"
      f" p99 of gets {ratio('get'):.2f} times, of puts {ratio('put'):.2f} times; memory at most {int(sys.argv[2]) / 1024:.0f} MiB")
P
