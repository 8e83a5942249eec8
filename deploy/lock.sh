#!/usr/bin/env bash
# Pins the packages of the deployed functions: writes deploy/requirements.lock from a fresh install of this repository.
# `.ci/run` installs the same versions, so the tested versions are deployed. They are the newest versions that are
# compatible with the test tools. Run this script to update them.
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
