#!/usr/bin/env bash
# Builds octelium-node with what the compiler learned from a run under load (profile-guided optimisation).
#
#     bench/pgo.sh [COMMAND…]     prints the path of the program
#
# COMMAND makes the load; it finds octelium-node and octeliumctl in the directory $OCTELIUM_BIN, and must let the nodes end in order,
# as that is when they write what was learned. Default: a minute of the mixed load of octelium-bench. Needs the toolchain's component
# llvm-tools (`rustup component add llvm-tools`), and for the default taskset (Debian package util-linux). Three builds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=$(rustc -vV | sed -n 's/^host: //p')
profdata=$(rustc --print sysroot)/lib/rustlib/$target/bin/llvm-profdata
[ -x "$profdata" ] || { echo "pgo: there is no $profdata: rustup component add llvm-tools" >&2; exit 1; }
out=${CARGO_TARGET_DIR:-$PWD/target}/pgo
export OCTELIUM_BIN=$out/learns
rm -rf "$out/profile" "$OCTELIUM_BIN"
mkdir -p "$out/profile" "$OCTELIUM_BIN"

# With --target the flags are for the product alone, not for what runs while it is built.
node() {
    RUSTFLAGS=$1 cargo build --locked --profile dist --target "$target" --target-dir "$out/$2" -p octelium-node
    cp "$out/$2/$target/dist/octelium-node" "$3"
}

cargo build --locked --profile dist --target-dir "$out/tools" -p octelium-cli -p octelium-bench
cp "$out/tools/dist/octeliumctl" "$out/tools/dist/octelium-bench" "$OCTELIUM_BIN/"
node "-Cprofile-generate=$out/profile" generate "$OCTELIUM_BIN/"
if [ $# -gt 0 ]; then "$@"; else "$OCTELIUM_BIN/octelium-bench" --soak 1; fi
"$profdata" merge -o "$out/profile.profdata" "$out/profile"
node "-Cprofile-use=$out/profile.profdata" use "$out/"
echo "$out/octelium-node"
