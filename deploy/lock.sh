#!/usr/bin/env bash
# Pins what the functions are deployed with: writes deploy/requirements.lock from a fresh install of this repository.
# `.ci/run` installs these very versions, so what is tested is what is deployed: they are the newest that the tests' own
# tools can be installed beside. Run it to take newer versions.
#
#   deploy/lock.sh
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/tested"
"$work/tested/bin/pip" install --quiet --disable-pip-version-check "$(dirname "$HERE")[test]"
"$work/tested/bin/pip" freeze --disable-pip-version-check --exclude gorchestrate >"$work/constraints.txt"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check -c "$work/constraints.txt" "$(dirname "$HERE")"
{
  echo "# Made by deploy/lock.sh with $(python3 --version). Do not edit."
  "$work/venv/bin/pip" freeze --disable-pip-version-check --exclude gorchestrate
} >"$work/requirements.lock"
mv "$work/requirements.lock" "$HERE/requirements.lock"
