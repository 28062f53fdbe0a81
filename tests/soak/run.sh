#!/usr/bin/env bash
# The long runs that are no cargo tests, by name.
#
#   run.sh clients   every client × backend × endpoint × layer
#   run.sh matrix    every feature × client × era of the backend × transport × layer × share
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
setup/setup.sh
case ${1:-} in
clients) script=clients/run.sh ;;
matrix) script=clients/matrix.sh ;;
*)
    echo "usage: tests/soak/run.sh clients|matrix [OPTION]..." >&2
    exit 64
    ;;
esac
shift
exec "$script" --all "$@"
