#!/usr/bin/env bash
# What comparing copies in the background costs: throughput with it on, and off, in turn.
#
#   bench/anti-entropy-cost.sh [--rounds 5] [--seconds 10] [--keys 100000]
#
# Two clusters of three nodes and three copies, filled alike: one compares its copies every ten
# seconds, as is usual, one never. Each is loaded in turn, half gets, half puts, 50 connections. Prints
# each round (operations per second, and CPU time of the nodes per operation), and the medians of the
# rounds' ratios. Needs a release build and python3.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=5 seconds=10 keys=100000
while [ $# -gt 0 ]; do
  case "$1" in
    --rounds) rounds="${2:?--rounds takes a number}"; shift ;;
    --seconds) seconds="${2:?--seconds takes a number}"; shift ;;
    --keys) keys="${2:?--keys takes a number}"; shift ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
  shift
done

bin=target/release
dir=$(mktemp -d)
started=()
cleanup() {
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$dir"
}
trap cleanup EXIT
address() { grep -om1 '127\.0\.0\.1:[0-9]*' "$1" 2>/dev/null; }

# cluster NAME SECONDS: starts one whose nodes compare so often.
cluster() {
  "$bin/gtstore-manager" --listen 127.0.0.1:0 --rep 3 --data-dir "$dir/$1" >"$dir/$1.out" 2>/dev/null &
  started+=($!)
  until address "$dir/$1.out" >/dev/null; do sleep 0.05; done
  for node in 1 2 3; do
    "$bin/gtstore-storage" --manager "$(address "$dir/$1.out")" --listen 127.0.0.1:0 \
      --data-dir "$dir/$1-$node" --compare-every "$2" >/dev/null 2>&1 &
    started+=($!)
    echo $! >>"$dir/$1.pids"
  done
  until "$bin/gtstore" --manager "$(address "$dir/$1.out")" health >/dev/null 2>&1; do sleep 0.2; done
}
# CPU time of a cluster's nodes so far, in clock ticks.
ticks() {
  for pid in $(cat "$dir/$1.pids"); do cut -d' ' -f14,15 "/proc/$pid/stat"; done | awk '{ sum += $1 + $2 } END { print sum }'
}
# load NAME ARGS: operations per second, and microseconds of CPU per operation.
load() {
  local name=$1 before
  shift
  before=$(ticks "$name")
  "$bin/gtstore-load" --manager "$(address "$dir/$name.out")" --keys "$keys" -o json "$@" 2>/dev/null >"$dir/load"
  python3 - "$dir/load" "$(($(ticks "$name") - before))" "$(getconf CLK_TCK)" <<'P'
import json, sys
told, ticks, hertz = json.load(open(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
count = told["get"]["count"] + told["put"]["count"]
print(told["ops_per_second"], ticks * 1e6 / hertz / count)
P
}

cluster on 10
cluster off 0
for name in on off; do load "$name" --ratio 0 --ops "$((2 * keys))" >/dev/null; done
for round in $(seq "$rounds"); do
  if [ "$((round % 2))" = 0 ]; then
    on=$(load on --duration "$seconds")
    off=$(load off --duration "$seconds")
  else
    off=$(load off --duration "$seconds")
    on=$(load on --duration "$seconds")
  fi
  echo "$on $off"
done | python3 -c '
import statistics, sys
rates, costs = [], []
for line in sys.stdin:
    on, on_us, off, off_us = map(float, line.split())
    rates.append(on / off)
    costs.append(on_us / off_us)
    print(f"on {on:.0f} ops/s {on_us:.1f} us, off {off:.0f} ops/s {off_us:.1f} us: {rates[-1]:.3f}, CPU {costs[-1]:.3f}", flush=True)
print(f"medians of {len(rates)}: throughput {statistics.median(rates):.3f}, CPU per operation {statistics.median(costs):.3f}")'
