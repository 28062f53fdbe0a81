#!/usr/bin/env bash
# Packs what `make install` installs under /usr/local into target/tarball, with a checksum beside it.
# TARGET=x86_64-unknown-linux-musl links everything statically, if rustup has that target.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
host=$(rustc -vV | sed -n 's/^host: //p')
target=${TARGET:-$host}
release=$PWD/target
if [ "$target" != "$host" ]; then
    cargo build --locked --release --bins --target "$target"
    release=$PWD/target/$target
fi
out=$PWD/target/tarball
name=mcp-gateway-$version-$target
rm -rf "${out:?}/$name"
mkdir -p "$out"
make --no-print-directory install-files TARGET="$release" DESTDIR="$out/$name" PREFIX=/usr/local >&2
tar --owner=0 --group=0 --sort=name -C "$out" -czf "$out/$name.tar.gz" "$name"
(cd "$out" && sha256sum "$name.tar.gz" > "$name.tar.gz.sha256")
echo "$out/$name.tar.gz"
