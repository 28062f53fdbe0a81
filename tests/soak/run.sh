#!/usr/bin/env bash
# The long runs that are no cargo tests: every client × backend × endpoint × layer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
setup/setup.sh
exec clients/run.sh --all "$@"
