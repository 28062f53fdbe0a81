#!/usr/bin/env bash
# Runs matrix.py with the pinned Python, so that nothing of a version manager gets into the environment.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=$("$here/../setup/setup.sh" --path)
exec "$cache/python/bin/python" "$here/matrix.py" "$@"
