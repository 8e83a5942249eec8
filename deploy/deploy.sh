#!/usr/bin/env bash
# Creates or updates all resources of a deployment, and deploys the two functions. You can run it repeatedly.
#
#   deploy/deploy.sh [--dry-run] [--skip-check] [--wheel FILE] [SETTINGS]
#
# SETTINGS is deploy/settings.env by default. --dry-run prints every command, sends nothing and changes nothing.
# --skip-check deploys without checking live instances. Instances that the new code does not support wait, unchanged.
# --wheel deploys this wheel of gorchestrate, instead of building one from the repository.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$HERE")
# shellcheck source=deploy/lib.sh
source "$HERE/lib.sh"
# shellcheck source=deploy/settings.sh
source "$HERE/settings.sh"
# shellcheck source=deploy/keys.sh
source "$HERE/keys.sh"
# shellcheck source=deploy/canary.sh
source "$HERE/canary.sh"

main() {
  local settings="$HERE/settings.env" argument base skip_check=false
  WHEEL=
  while (($#)); do
    argument=$1
    shift
    case $argument in
      --dry-run) DRY_RUN=true ;;
      --skip-check) skip_check=true ;;
      --wheel)
        [[ -f ${1-} ]] || die "--wheel needs the path of a wheel"
        WHEEL=$1
        shift
        ;;
      -h | --help) sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit ;;
      -*) die "unknown option $argument. Available: --dry-run, --skip-check, --wheel, --help" ;;
      *) settings=$argument ;;
    esac
  done
  load_settings "$settings"
  check_access "$settings"
  base=$(cd "$(dirname "$settings")" && pwd)
  [[ $base != "$HERE" ]] || base=$ROOT
  [[ $SOURCE == /* ]] || SOURCE="$base/$SOURCE"
  [[ -f $SOURCE/main.py ]] || die "$settings: SOURCE is $SOURCE, which does not contain main.py"
  SOURCE=$(cd "$SOURCE" && pwd)
  derive
  need_gcloud
  need python3 "required to build the wheel and to apply the indexes"
  PATH+=":$ROOT/.venv/bin"
  if ! $skip_check || [[ ${SHARDED_INDEXES:-write} != write ]]; then
    need gorchestrate "required to check your source. Run pip install -e . in this repository and activate its virtual environment, or pass --skip-check"
  fi
  $DRY_RUN && printf 'Dry run: nothing is sent, nothing is changed.\n'

  check_files
  find_project
  enable_apis
  create_database
  apply_indexes
  add_shards # before the check, which reads the same indexes as the functions
  $skip_check || check_source
  create_accounts
  for_each_queue create_queue
  grant_roles
  create_keys
  stage_source
  deploy_worker
  try_worker
  deploy_api
  create_recovery_job
  say "Done"
  printf '  api     %s (%s)\n' "$API_URL" "$($PUBLIC && echo 'public' || echo 'private: callers need roles/run.invoker')"
  printf '  worker  %s (only for %s)\n' "$WORKER_URL" "$TASKS_EMAIL"
}

# Before anything is sent: no secret and no database is uploaded.
check_files() {
  say "Files of $SOURCE"
  list_files | python3 "$HERE/source_files.py" "$SOURCE"
}

list_files() { gcloud meta list-files-for-upload "$SOURCE"; }

find_project() {
  say "Project $PROJECT"
  local number=PROJECT_NUMBER
  show gcloud projects describe "$PROJECT" "--format=value(projectNumber)"
  if ! $DRY_RUN; then
    number=$(gcloud projects describe "$PROJECT" "--format=value(projectNumber)") ||
      die "cannot read project $PROJECT: check PROJECT, and log in with gcloud auth login"
  fi
  # Cloud Run's deterministic URL: the worker gets its own URL before it exists, so one deployment is enough.
  WORKER_URL="https://$WORKER_FUNCTION-$number.$REGION.run.app"
  API_URL="https://$API_FUNCTION-$number.$REGION.run.app"
}

enable_apis() {
  say "APIs"
  run gcloud services enable --project="$PROJECT" \
    artifactregistry.googleapis.com cloudbuild.googleapis.com cloudfunctions.googleapis.com \
    cloudscheduler.googleapis.com cloudtasks.googleapis.com firestore.googleapis.com iam.googleapis.com \
    run.googleapis.com secretmanager.googleapis.com
}

create_database() {
  say "Firestore database $DATABASE"
  IS_NEW=false
  if ! there gcloud firestore databases describe --project="$PROJECT" --database="$DATABASE"; then
    IS_NEW=true
    run gcloud firestore databases create --project="$PROJECT" --database="$DATABASE" \
      --location="$FIRESTORE_LOCATION" --type=firestore-native --delete-protection
  fi
}

# gcloud cannot do this: its `firestore indexes fields update` has no collection-group scope.
apply_indexes() {
  say "Firestore indexes and TTL policies from $HERE/firestore.indexes.json"
  local options=() token=""
  if $DRY_RUN; then options=(--dry-run); else token=$(gcloud auth print-access-token); fi
  if ((${INDEX_SHARDS:-1} > 1)); then options+=(--sharded-indexes "${SHARDED_INDEXES:-write}"); fi
  if $IS_NEW; then options+=(--new); fi
  GOOGLE_ACCESS_TOKEN=$token python3 "$HERE/firestore_indexes.py" ${options[@]+"${options[@]}"} \
    --project="$PROJECT" --database="$DATABASE" "$HERE/firestore.indexes.json"
}

# Functions that read indexes with shards see only documents that have one.
add_shards() {
  if [[ ${SHARDED_INDEXES:-write} == write ]]; then return; fi
  if $IS_NEW && ! $DRY_RUN; then return; fi
  say "Shards of instances that were created without one"
  local command=(gorchestrate add-shards --shards "$INDEX_SHARDS" "$PROJECT/$DATABASE") token
  show "${command[@]}"
  if $DRY_RUN; then return; fi
  token=$(gcloud auth print-access-token)
  GOOGLE_ACCESS_TOKEN=$token "${command[@]}" || die "no function was deployed: not every instance has a shard"
}

# A new database has no instances yet, and its indexes are still being built.
check_source() {
  say "Check of the source against live instances"
  local command=(gorchestrate check --deployable "$SOURCE/main.py") token
  if ! $IS_NEW; then command+=(--against "$PROJECT/$DATABASE"); fi
  show "${command[@]}"
  if $DRY_RUN; then
    printf '    if the database exists: with --against %s\n' "$PROJECT/$DATABASE"
    return
  fi
  token=$(gcloud auth print-access-token)
  GOOGLE_ACCESS_TOKEN=$token GORCHESTRATE_INDEX_SHARDS=${INDEX_SHARDS:-1} \
    GORCHESTRATE_SHARDED_INDEXES=${SHARDED_INDEXES:-write} "${command[@]}" ||
    die "no function was deployed: fix what is listed above, or pass --skip-check to deploy anyway"
}

create_accounts() {
  say "Service accounts"
  create_account "$API_ACCOUNT" "$API_EMAIL" "gorchestrate: identity of the api"
  create_account "$WORKER_ACCOUNT" "$WORKER_EMAIL" "gorchestrate: identity of the worker"
  create_account "$TASKS_ACCOUNT" "$TASKS_EMAIL" "gorchestrate: may call the worker"
}

create_account() {
  if ! there gcloud iam service-accounts describe "$2" --project="$PROJECT"; then
    run gcloud iam service-accounts create "$1" --project="$PROJECT" --display-name="$3"
  fi
}

for_each_queue() {
  local queue
  for queue in "${ALL_QUEUES[@]}"; do "$@" "$queue"; done
}

create_queue() {
  say "Task queue $1"
  local verb=create
  if there gcloud tasks queues describe "$1" --project="$PROJECT" --location="$REGION"; then verb=update; fi
  run gcloud tasks queues "$verb" "$1" --project="$PROJECT" --location="$REGION" \
    --max-dispatches-per-second="$QUEUE_DISPATCHES_PER_SECOND" \
    --max-concurrent-dispatches="$QUEUE_CONCURRENT_DISPATCHES" \
    --max-attempts="$QUEUE_ATTEMPTS" --max-retry-duration="$QUEUE_RETRY_DURATION" \
    --min-backoff="$QUEUE_BACKOFF_MIN" --max-backoff="$QUEUE_BACKOFF_MAX" --max-doublings="$QUEUE_DOUBLINGS"
}

# Both functions commit to the database, and create and delete tasks. They have an account each, so that a secret or a
# service that only steps need can be given to the worker alone.
grant_roles() {
  local member role
  say "Roles of $API_ACCOUNT and $WORKER_ACCOUNT: this database, this queue, tasks that act as $TASKS_ACCOUNT"
  for member in "serviceAccount:$API_EMAIL" "serviceAccount:$WORKER_EMAIL"; do
    eventually gcloud projects add-iam-policy-binding "$PROJECT" \
      --member="$member" --role=roles/datastore.user --condition="$DATABASE_CONDITION"
    for role in roles/cloudtasks.enqueuer roles/cloudtasks.taskDeleter; do
      for_each_queue grant_queue "$member" "$role"
    done
    eventually gcloud iam service-accounts add-iam-policy-binding "$TASKS_EMAIL" --project="$PROJECT" \
      --member="$member" --role=roles/iam.serviceAccountUser
  done
}

# grant_queue MEMBER ROLE QUEUE
grant_queue() {
  eventually gcloud tasks queues add-iam-policy-binding "$3" --project="$PROJECT" --location="$REGION" \
    --member="$1" --role="$2"
}

# The functions' source: your code, the wheel of this repository, and requirements pinned to the tested files.
stage_source() {
  local pip=(python3 -m pip --quiet --disable-pip-version-check)
  say "Source from $SOURCE"
  STAGE=STAGED_SOURCE TOOLS=BUILD_TOOLS
  if ! $DRY_RUN; then
    STAGE=$(mktemp -d) TOOLS=$(mktemp -d)
    trap 'rm -rf "$STAGE" "$TOOLS"' EXIT
    list_files | python3 "$HERE/source_files.py" "$SOURCE" "$STAGE"
    # The files were chosen above. Without this file, gcloud would choose again, by a .gitignore for example.
    printf '.gcloudignore\n' >"$STAGE/.gcloudignore"
  fi
  if [[ -n $WHEEL ]]; then
    run cp "$WHEEL" "$STAGE"
  else
    # With hashes and without pip's own build environment, which takes the newest versions: they would run here.
    run "${pip[@]}" install --require-hashes --target="$TOOLS" --requirement="$HERE/build.lock"
    run env "PYTHONPATH=$TOOLS" "${pip[@]}" wheel --no-build-isolation --no-deps --wheel-dir="$STAGE" "$ROOT"
  fi
  printf '  requirements.txt: requirements.lock, the wheel, and the requirements.txt of your source if it has one\n'
  if ! $DRY_RUN; then write_requirements >"$TOOLS/requirements.txt" && mv "$TOOLS/requirements.txt" "$STAGE"; fi
}

write_requirements() {
  local wheel
  cat "$HERE/requirements.lock"
  wheel=$(cd "$STAGE" && printf '%s' gorchestrate-*.whl)
  printf './%s %s\n' "$wheel" "$(python3 -m pip hash "$STAGE/$wheel" | grep -- --hash=)"
  if [[ -f $STAGE/requirements.txt ]]; then cat "$STAGE/requirements.txt"; fi
}

# deploy_function NAME ENTRY_POINT ACCOUNT TIMEOUT INSTANCES_MAX [OPTION...]
deploy_function() {
  local name=$1 entry_point=$2 account=$3 timeout=$4 instances_max=$5 joined
  local variables=() options=() removed=() secrets=() removed_secrets=()
  shift 5
  variables=(
    GORCHESTRATE_BACKEND=cloud
    "GORCHESTRATE_LEASE_SECONDS=$LEASE_SECONDS"
    "GORCHESTRATE_LAZY_TIMER_SECONDS=$LAZY_TIMER_SECONDS"
    "GORCHESTRATE_PROJECT=$PROJECT"
    "GORCHESTRATE_DATABASE=$DATABASE"
    "GORCHESTRATE_LOCATION=$REGION"
    "GORCHESTRATE_QUEUE=$QUEUE"
    "GORCHESTRATE_QUEUES=${QUEUES:-1}"
    "GORCHESTRATE_ACTIVITY_QUEUE=$ACTIVITY_QUEUE"
    "GORCHESTRATE_INDEX_SHARDS=${INDEX_SHARDS:-1}"
    "GORCHESTRATE_SHARDED_INDEXES=${SHARDED_INDEXES:-write}"
    "GORCHESTRATE_WORKER_URL=$WORKER_URL"
    "GORCHESTRATE_AUDIENCE=$WORKER_URL"
    "GORCHESTRATE_TASKS_ACCOUNT=$TASKS_EMAIL"
    "GORCHESTRATE_WORKER_AUTH=$WORKER_AUTH"
    "GORCHESTRATE_PUBLIC=$PUBLIC"
    "GORCHESTRATE_PUBLIC_URL=$PUBLIC_URL"
    "GORCHESTRATE_RATE_LIMIT=$RATE_LIMIT"
    "GORCHESTRATE_UI=$UI"
    "GORCHESTRATE_LOG_LEVEL=$LOG_LEVEL"
  )
  if [[ $ACCESS == open ]]; then
    variables+=(GORCHESTRATE_ACCESS=open)
  else
    removed+=(GORCHESTRATE_ACCESS)
  fi
  if [[ -n $KMS_KEY ]]; then variables+=("GORCHESTRATE_KMS_KEY=$KMS_KEY"); fi
  add_keys "$account"
  joined=$(joined_variables "${variables[@]}")
  if ((${#removed[@]})); then options+=("--remove-env-vars=$(joined_names "${removed[@]}")"); fi
  if ((${#secrets[@]})); then options+=("--update-secrets=$(joined_names "${secrets[@]}")"); fi
  if ((${#removed_secrets[@]})); then options+=("--remove-secrets=$(joined_names "${removed_secrets[@]}")"); fi
  if [[ -n $BUILD_ACCOUNT ]]; then options+=(--build-service-account="projects/$PROJECT/serviceAccounts/$BUILD_ACCOUNT"); fi
  # update-env-vars, not set-env-vars: keeps variables and secrets that the user added.
  run gcloud functions deploy "$name" --gen2 --project="$PROJECT" --region="$REGION" \
    --source="$STAGE" --entry-point="$entry_point" --runtime="$RUNTIME" --trigger-http \
    --service-account="$account" ${options[@]+"${options[@]}"} --update-env-vars="$joined" \
    --memory="$MEMORY" --cpu="$CPU" --concurrency="$CONCURRENCY" --timeout="$timeout" \
    --min-instances="$INSTANCES_MIN" --max-instances="$instances_max" "$@"
}

deploy_worker() {
  say "Function $WORKER_FUNCTION: private, reachable only by Cloud Tasks and Cloud Scheduler"
  choose_worker_auth
  send_worker
  check_worker_url
  eventually gcloud run services add-iam-policy-binding "$WORKER_FUNCTION" --project="$PROJECT" --region="$REGION" \
    --member="serviceAccount:$TASKS_EMAIL" --role=roles/run.invoker
}

send_worker() {
  deploy_function "$WORKER_FUNCTION" worker "$WORKER_EMAIL" "$WORKER_TIMEOUT" "$WORKER_INSTANCES_MAX" \
    --no-allow-unauthenticated --ingress-settings=internal-only
}

check_worker_url() {
  local command urls
  command=(gcloud run services describe "$WORKER_FUNCTION" --project="$PROJECT" --region="$REGION"
    --format='value(metadata.annotations["run.googleapis.com/urls"])')
  show "${command[@]}"
  if $DRY_RUN; then return; fi
  urls=$("${command[@]}")
  [[ $urls == *"$WORKER_URL"* ]] || die "expected the worker at $WORKER_URL, but Cloud Run reports: ${urls:-nothing}"
}

deploy_api() {
  local callers=--no-allow-unauthenticated
  if $PUBLIC; then callers=--allow-unauthenticated; fi
  say "Function $API_FUNCTION: $($PUBLIC && echo 'public' || echo 'private')"
  deploy_function "$API_FUNCTION" api "$API_EMAIL" "$API_TIMEOUT" "$API_INSTANCES_MAX" "$callers" --ingress-settings=all
}

create_recovery_job() {
  say "Scheduler job $RECOVERY_JOB: finds stalled instances"
  local verb=create
  if there gcloud scheduler jobs describe "$RECOVERY_JOB" --project="$PROJECT" --location="$REGION"; then verb=update; fi
  run gcloud scheduler jobs "$verb" http "$RECOVERY_JOB" --project="$PROJECT" --location="$REGION" \
    --schedule="$RECOVERY_SCHEDULE" --time-zone=Etc/UTC --uri="$WORKER_URL/recover" --http-method=POST \
    --oidc-service-account-email="$TASKS_EMAIL" --oidc-token-audience="$WORKER_URL" \
    --attempt-deadline=60s --max-retry-attempts=0
}

main "$@"
