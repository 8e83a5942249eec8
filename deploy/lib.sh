# shellcheck shell=bash disable=SC2034
# Shared by deploy.sh and teardown.sh: prints and runs commands. Source this file, do not run it.

DRY_RUN=false
STEP_OUTPUT=/dev/null

say() { printf '\n== %s\n' "$*"; }
die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# Prints one command, quoted for a shell.
show() {
  local word line=""
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9_./:=@,%+-]+$ ]]; then line+=" $word"; else line+=" '${word//\'/\'\\\'\'}'"; fi
  done
  printf '  $%s\n' "$line"
}

# Prints a command and, unless this is a dry run, runs it.
run() {
  show "$@"
  if ! $DRY_RUN; then "$@" >"$STEP_OUTPUT"; fi
}

is_missing() { grep -qiE 'not[ _-]?found|cannot find|could not find|does not exist|no longer exists|unknown service account' <<<"$1"; }

# Returns whether the command, which describes a resource, finds it. Fails on any error except "not found". A dry run
# always returns "not found".
there() {
  local output
  show "$@"
  if $DRY_RUN; then
    printf '    if missing: the next command; if it exists: unchanged, or updated instead\n'
    return 1
  fi
  if output=$("$@" 2>&1); then return 0; fi
  if is_missing "$output"; then return 1; fi
  die "cannot tell whether it exists: $output"
}

# Runs a command that removes a resource. A missing resource is not an error.
remove() {
  local output
  show "$@"
  if $DRY_RUN; then return; fi
  if output=$("$@" 2>&1); then return; fi
  is_missing "$output" || die "$output"
  printf '    already removed\n'
}

# Runs a command that refers to a service account. Retries, because a new account is not visible everywhere at once.
eventually() {
  local output try
  show "$@"
  if $DRY_RUN; then return; fi
  for try in 1 2 3 4 5 6; do
    if output=$("$@" 2>&1); then return; fi
    if ! is_missing "$output" || [[ $try == 6 ]]; then die "$output"; fi
    sleep 5
  done
}

# Prints the value of gcloud's --update-env-vars for NAME=value arguments. gcloud splits it at the delimiter that it names,
# or else at each comma: then a comma in a setting would add a variable.
joined_variables() {
  local delimiter IFS
  for delimiter in ',' ';' '|' '~' '!' '%' '#' '*'; do
    if [[ $* != *"$delimiter"* ]]; then
      IFS=$delimiter
      printf '^%s^%s' "$delimiter" "$*"
      return
    fi
  done
  die "the settings contain all of , ; | ~ ! % # and *, so gcloud could not tell them apart: avoid one of these"
}

# Prints names with commas between them.
joined_names() {
  local IFS=,
  printf '%s' "$*"
}

need() { command -v "$1" >/dev/null || die "$1 is not installed: $2"; }
need_gcloud() { need gcloud "see https://cloud.google.com/sdk/docs/install"; }

# The locks decide which versions are installed.
unset PIP_CONSTRAINT
# gcloud must not prompt: the scripts ask their own questions.
export CLOUDSDK_CORE_DISABLE_PROMPTS=1
