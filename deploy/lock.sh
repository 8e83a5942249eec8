#!/usr/bin/env bash
# Pins the packages of the deployed functions, and those that build the wheel of this repository, with the hashes of
# their files: writes deploy/requirements.lock and deploy/build.lock from fresh installs of this repository. `.ci/run`
# installs the same versions, so the tested versions are deployed. They are the newest versions that are compatible with
# the test tools. Run this script to update them.
#
#   deploy/lock.sh
set -euo pipefail
unset CDPATH # with it, cd prints where it goes
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$HERE")

# lock NAME [OPTION...]: pins the requirements on the standard input for the Python and the platform of the functions.
lock() {
  local name=$1
  shift
  {
    echo "# Made by deploy/lock.sh with $(python3 --version). Do not edit."
    "$work/venv/bin/uv" pip compile - --quiet --no-header --no-annotate --generate-hashes \
      --only-binary=:all: --emit-build-options --python-version=3.11 --python-platform=linux "$@"
  } >"$work/$name"
  mv "$work/$name" "$HERE/$name"
}

# required KEY...: the requirements at that place in pyproject.toml.
required() {
  python3 - "$ROOT/pyproject.toml" "$@" <<'PY'
import sys
import tomllib

file, *keys = sys.argv[1:]
table = tomllib.load(open(file, "rb"))
for key in keys:
    table = table[key]
print(*table, sep="\n")
PY
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "${ROOT}[test]"
"$work/venv/bin/pip" freeze --disable-pip-version-check --exclude gorchestrate >"$work/constraints.txt"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check uv
{
  required project dependencies
  required project optional-dependencies postgresql # so that its version is pinned, too
} | lock requirements.lock --constraint="$work/constraints.txt"
required build-system requires | lock build.lock
