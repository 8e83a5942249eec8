# shellcheck shell=bash disable=SC2034
# Shared by deploy.sh and teardown.sh: reads settings, prints and runs commands. Source this file, do not run it.

DRY_RUN=false
STEP_OUTPUT=/dev/null

# All of these must be in the settings file. settings.env.example explains them.
REQUIRED=(
  PROJECT REGION FIRESTORE_LOCATION DATABASE
  QUEUE QUEUE_DISPATCHES_PER_SECOND QUEUE_CONCURRENT_DISPATCHES
  QUEUE_ATTEMPTS QUEUE_RETRY_DURATION QUEUE_BACKOFF_MIN QUEUE_BACKOFF_MAX QUEUE_DOUBLINGS
  RUN_ACCOUNT TASKS_ACCOUNT
  SOURCE RUNTIME API_FUNCTION WORKER_FUNCTION PUBLIC UI
  MEMORY CPU CONCURRENCY INSTANCES_MIN API_INSTANCES_MAX WORKER_INSTANCES_MAX API_TIMEOUT WORKER_TIMEOUT
  LEASE_SECONDS RECOVERY_SCHEDULE LOG_LEVEL
)
OPTIONAL=(BUILD_ACCOUNT PUBLIC_URL)

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

is_missing() { grep -qiE 'not[ _-]?found|cannot find|could not find|does not exist|unknown service account' <<<"$1"; }

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

# Reads NAME=value lines. The file is data: nothing in it is executed.
load_settings() {
  local file=$1 line number=0 name value
  [[ -f $file ]] || die "settings file $file not found: copy deploy/settings.env.example to it and edit it"
  for name in "${REQUIRED[@]}" "${OPTIONAL[@]}"; do printf -v "$name" '%s' ''; done
  while IFS= read -r line || [[ -n $line ]]; do
    number=$((number + 1))
    line=${line%$'\r'}
    if [[ $line =~ ^[[:space:]]*(#.*)?$ ]]; then continue; fi
    [[ $line =~ ^([A-Z_]+)=(.*)$ ]] || die "$file:$number: expected NAME=value, found: $line"
    name=${BASH_REMATCH[1]} value=${BASH_REMATCH[2]}
    [[ " ${REQUIRED[*]} ${OPTIONAL[*]} " == *" $name "* ]] || die "$file:$number: unknown setting $name: see settings.env.example"
    if [[ $value =~ ^\"(.*)\"$ || $value =~ ^\'(.*)\'$ ]]; then value=${BASH_REMATCH[1]}; fi
    printf -v "$name" '%s' "$value"
  done <"$file"
  for name in "${REQUIRED[@]}"; do
    [[ -n ${!name} ]] || die "$file: $name is missing: see settings.env.example"
  done
  check_settings "$file"
}

check_settings() {
  local name
  [[ $PUBLIC == true || $PUBLIC == false ]] || die "$1: PUBLIC is '$PUBLIC': write true or false"
  [[ -z $PUBLIC_URL || $PUBLIC_URL =~ ^https?://[^/?#,]+(/[^?#,]*)?$ ]] ||
    die "$1: PUBLIC_URL is '$PUBLIC_URL': write a URL such as https://example.com/orders, or nothing"
  [[ $UI == true || $UI == false ]] || die "$1: UI is '$UI': write true or false"
  for name in API_FUNCTION WORKER_FUNCTION; do
    # A longer name has no deterministic URL: the host's first label has 63 characters, 14 of them for the project.
    [[ ${!name} =~ ^[a-z][a-z0-9-]{0,47}[a-z0-9]$ ]] ||
      die "$1: $name is '${!name}': lower-case letters, digits and hyphens, at most 49 of them"
  done
  [[ $API_FUNCTION != "$WORKER_FUNCTION" ]] || die "$1: API_FUNCTION and WORKER_FUNCTION must differ"
}

# Derives further values from the settings. In a dry run, the project's number is unknown.
derive() {
  RUN_EMAIL="$RUN_ACCOUNT@$PROJECT.iam.gserviceaccount.com"
  TASKS_EMAIL="$TASKS_ACCOUNT@$PROJECT.iam.gserviceaccount.com"
  RECOVERY_JOB="$WORKER_FUNCTION-recover"
  # The run account may use only this database of the project.
  DATABASE_CONDITION="expression=resource.name==\"projects/$PROJECT/databases/$DATABASE\",title=gorchestrate-$QUEUE"
}

need() { command -v "$1" >/dev/null || die "$1 is not installed: $2"; }
need_gcloud() { need gcloud "see https://cloud.google.com/sdk/docs/install"; }

# gcloud must not prompt: the scripts ask their own questions.
export CLOUDSDK_CORE_DISABLE_PROMPTS=1
