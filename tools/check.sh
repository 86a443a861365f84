#!/usr/bin/env bash
# The whole gate: format, lints, documentation, tests, simulation sweep. Run it before every push.
#
#   tools/check.sh            everything
#   tools/check.sh --no-test  without `cargo test`, for a caller that has just run it
#   tools/check.sh --seeds N  a longer sweep of the simulator (default 300)
set -euo pipefail
cd "$(dirname "$0")/.."

seeds=300
test=yes
while [ $# -gt 0 ]; do
  case "$1" in
    --no-test) test=no ;;
    --seeds) seeds="${2:?--seeds takes a number}"; shift ;;
    *) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
  shift
done

step() { printf '\n== %s\n' "$1"; }

step "format"
cargo fmt --all -- --check
step "lints"
cargo clippy --all-targets --locked -- -D warnings
step "lints, with planted bugs"
cargo clippy --all-targets --locked --features planted-bugs -- -D warnings
step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked --document-private-items
if [ "$test" = yes ]; then
  step "tests"
  cargo test --locked
fi
step "simulator: $seeds seeds"
cargo run --release --locked --bin gtstore-sim -- --seeds "0..$seeds"
step "all is well"
