#!/usr/bin/env bash
# Builds the Debian package from a clean copy of the tracked tree, in target/deb.
#
#   packaging/deb.sh               target/deb/mcp-gateway_VERSION_ARCH.deb
#   packaging/deb.sh repack VERSION   that package once more under a higher version, not built again
#
# The crates that Cargo.lock names are copied into target/deb, never into the tree, so that the
# package's own build needs no network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=$PWD/target/deb
arch=$(dpkg --print-architecture)
version=$(dpkg-parsechangelog -SVersion)
mkdir -p "$out"

if [ "${1:-}" = repack ]; then
    new=${2:?a version}
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    dpkg-deb -R "$out/mcp-gateway_${version}_$arch.deb" "$work/tree"
    sed -i "s/^Version: .*/Version: $new/" "$work/tree/DEBIAN/control"
    dpkg-deb --root-owner-group -b "$work/tree" "$out/mcp-gateway_${new}_$arch.deb"
    exit
fi

tree=$out/mcp-gateway-$version
rm -rf "$tree"
mkdir -p "$tree/target"
git ls-files -z | xargs -0 tar -c --ignore-failed-read | tar -x -C "$tree"
cargo vendor --locked --quiet --versioned-dirs "$out/vendor" > "$out/vendor.toml.new"
mv "$out/vendor.toml.new" "$out/vendor.toml"
mkdir "$tree/target/vendor"
cp "$out/vendor.toml" "$tree/target/vendor/config.toml"
cd "$tree"
# Kept between builds: most of the time goes into the crates.
export CARGO_TARGET_DIR=$out/build
dpkg-buildpackage -us -uc -b -d --no-pre-clean
ls "$out"/*.deb
