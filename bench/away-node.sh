#!/usr/bin/env bash
# One of five nodes is away for minutes under full write load: hints, their cap, and the way back.
#
#   bench/away-node.sh [--seconds 600] [--conns 50] [--hint-bytes 64MiB] [--keys 400000] [--value-bytes 1000]
#
# A node is killed; puts go on as fast as they are taken; it is started again under the same load,
# which then ends. Prints throughput and errors of clients; the most bytes of hints that any node
# kept, and the most that it had on disk; how long after the return hints were handed over and every
# copy was equal (a repair that finds nothing to send); whether each holder's counters add up: missed
# = kept + delivered + dropped; and every verdict of the nodes on each other (the one away aside they
# are false alarms). R = W = 2 of 3 copies. Needs a release build and python3.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=600 conns=50 hint_bytes=64MiB keys=400000 value_bytes=1000
while [ $# -gt 0 ]; do
  case "$1" in
    --seconds) seconds="${2:?--seconds takes a number}"; shift ;;
    --conns) conns="${2:?--conns takes a number}"; shift ;;
    --hint-bytes) hint_bytes="${2:?--hint-bytes takes a size}"; shift ;;
    --keys) keys="${2:?--keys takes a number}"; shift ;;
    --value-bytes) value_bytes="${2:?--value-bytes takes a number}"; shift ;;
    *) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2 ;;
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

"$bin/gtstore-manager" --listen 127.0.0.1:0 --rep 3 --data-dir "$dir/manager" >"$dir/manager.out" 2>"$dir/manager.log" &
started+=($!)
address() { grep -om1 '127\.0\.0\.1:[0-9]*' "$1" 2>/dev/null; }
until address "$dir/manager.out" >/dev/null; do sleep 0.05; done
GTSTORE_MANAGER=$(address "$dir/manager.out")
export GTSTORE_MANAGER
start_node() {
  "$bin/gtstore-storage" --manager "$GTSTORE_MANAGER" --listen "127.0.0.1:${2:-0}" --data-dir "$dir/$1" \
    --hint-bytes "$hint_bytes" >"$dir/$1.out" 2>>"$dir/$1.log" &
  started+=($!)
}
for node in 1 2 3 4 5; do start_node "$node"; done
until "$bin/gtstore" health >/dev/null 2>&1; do sleep 0.2; done
until [ "$("$bin/gtstore" status -o json | python3 -c 'import json,sys; s=json.load(sys.stdin); print(len(s["nodes"]), s["moving"])')" = "5 0" ]; do sleep 0.2; done
away=${started[5]}
port=$(address "$dir/5.out"); port=${port##*:}

load() { "$bin/gtstore-load" --keys "$keys" --value-bytes "$value_bytes" --ratio 0 --conns "$conns" --pipeline 4 -o json "$@" 2>/dev/null || true; }
load --ops "$keys" >/dev/null
load --duration "$((seconds + 10))" >"$dir/load" &
loading=$!
sleep 2
kill -9 "$away"
killed=$SECONDS
hint_most=0 disk_most=0
look() {
  local hints disk
  hints=$("$bin/gtstore" hints -o json 2>/dev/null | python3 -c 'import json,sys; print(max([h["bytes"] for h in json.load(sys.stdin)["hints"]] or [0]))' || echo 0)
  disk=$( (du -sb "$dir"/[1-4] 2>/dev/null || true) | sort -n | tail -1 | cut -f1)
  [ "$hints" -gt "$hint_most" ] && hint_most=$hints
  [ "$disk" -gt "$disk_most" ] && disk_most=$disk
  return 0
}
until [ "$((SECONDS - killed))" -ge "$seconds" ]; do sleep 1; look; done
start_node 5 "$port"
wait "$loading"
ended=$SECONDS
until "$bin/gtstore" health >/dev/null 2>&1; do sleep 0.5; look; done
well=$((SECONDS - ended))
rounds=0
while :; do
  rounds=$((rounds + 1))
  "$bin/gtstore" repair -o json >"$dir/repair"
  sent=$(python3 -c "import json; print(sum(n['sent'] + n['fetched'] for n in json.load(open('$dir/repair'))['nodes']))")
  [ "$sent" = 0 ] && break
  [ "$rounds" -lt 20 ] || break
done
equal=$((SECONDS - ended))
"$bin/gtstore" hints -o json >"$dir/hints"
verdicts=$(grep -hoE 'node [0-9]+ (is down|does not answer this node).*' "$dir"/[1-5].log | sort | uniq -c || true)
python3 - "$dir" "$hint_most" "$disk_most" "$well" "$equal" "$rounds" "$sent" <<'P'
import json, sys
dir, hint_most, disk_most, well, equal, rounds, sent = sys.argv[1], *map(int, sys.argv[2:])
load = json.load(open(f"{dir}/load"))
print(f"{load['ops_per_second']:.0f} puts/s, {load['error_count']} errors {load['errors'] or ''}, {load['asked_again']} asked again; p99 {load['put']['p99_us']/1e3:.2f} ms")
print(f"hints: at most {hint_most / 2**20:.1f} MiB kept by a node for the one away; disk of a node at most {disk_most / 2**20:.0f} MiB")
print(f"after the load: all well in {well} s; a repair finds nothing left after {equal} s ({rounds} rounds, {sent} keys sent in the last)")
hints = json.load(open(f"{dir}/hints"))["hints"]
for h in hints:
    fine = h["missed"] == h["hints"] + h["delivered"] + h["dropped"]
    print(f"node {h['holder']} for {h['owed_to']}: missed {h['missed']} = kept {h['hints']} + delivered {h['delivered']} + dropped {h['dropped']}: {'adds up' if fine else 'DOES NOT ADD UP'}")
P
echo "verdicts: ${verdicts:-none}"
