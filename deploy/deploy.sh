#!/usr/bin/env bash
# Creates or updates all resources of a deployment, and deploys the two functions or services. You can run it repeatedly.
#
#   deploy/deploy.sh [--dry-run] [--skip-check] [--wheel FILE] [SETTINGS]
#   deploy/deploy.sh [--dry-run] --rollback [SETTINGS]
#   deploy/deploy.sh [--dry-run] [--skip-check] [--wheel FILE] --archive FILE [SETTINGS]
#
# SETTINGS is deploy/settings.env by default. --dry-run prints every command, sends nothing and changes nothing.
# --skip-check deploys without checking live instances. Instances that the new code does not support wait, unchanged.
# --wheel deploys this wheel of gorchestrate, instead of building one from the repository.
# --rollback deploys nothing: requests go to the revisions of the deployment before.
# --archive deploys nothing: it writes the source of the functions to a zip file, for deploy/terraform.
set -euo pipefail
unset CDPATH # with it, cd prints where it goes
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$HERE")
# shellcheck source=deploy/lib.sh
source "$HERE/lib.sh"
# shellcheck source=deploy/settings.sh
source "$HERE/settings.sh"
# shellcheck source=deploy/keys.sh
source "$HERE/keys.sh"
# shellcheck source=deploy/accounts.sh
source "$HERE/accounts.sh"
# shellcheck source=deploy/database.sh
source "$HERE/database.sh"
# shellcheck source=deploy/functions.sh
source "$HERE/functions.sh"
# shellcheck source=deploy/image.sh
source "$HERE/image.sh"
# shellcheck source=deploy/traffic.sh
source "$HERE/traffic.sh"
# shellcheck source=deploy/monitoring.sh
source "$HERE/monitoring.sh"
# shellcheck source=deploy/canary.sh
source "$HERE/canary.sh"

main() {
  local settings="$HERE/settings.env" argument skip_check=false rollback=false archive=
  WHEEL=
  while (($#)); do
    argument=$1
    shift
    case $argument in
      --dry-run) DRY_RUN=true ;;
      --skip-check) skip_check=true ;;
      --rollback) rollback=true ;;
      --archive)
        [[ -n ${1-} && -d $(dirname "$1") ]] || die "--archive needs the path of a zip file in a folder that exists"
        archive=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
        shift
        ;;
      --wheel)
        [[ -f ${1-} ]] || die "--wheel needs the path of a wheel"
        WHEEL=$1
        shift
        ;;
      -h | --help) sed -n '2,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit ;;
      -*) die "unknown option $argument. Available: --dry-run, --skip-check, --wheel, --rollback, --archive, --help" ;;
      *) settings=$argument ;;
    esac
  done
  load_settings "$settings"
  check_access "$settings"
  find_source "$settings"
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

  if $rollback; then
    find_project
    make_folders
    roll_back
    return
  fi
  check_files
  if [[ -n $archive ]]; then
    IS_NEW=true # the database is not looked at
    $skip_check || check_source
    stage_source
    run python3 "$HERE/archive.py" "$STAGE" "$archive"
    return
  fi
  name_release
  find_project
  enable_apis
  refuse_functions
  create_database
  claim_database
  schedule_backups
  apply_indexes
  add_shards # before the check, which reads the same indexes as the functions
  $skip_check || check_source
  create_accounts
  for_each_queue create_queue
  grant_roles
  grant_build_roles
  create_keys
  stage_source
  build_image
  deploy_worker
  try_worker
  deploy_api
  create_recovery_job
  create_alerts
  remove_old_queues
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
  local more=()
  say "APIs"
  if [[ -n $ALERTS ]]; then more=(logging.googleapis.com monitoring.googleapis.com); fi
  run gcloud services enable --project="$PROJECT" \
    artifactregistry.googleapis.com cloudbuild.googleapis.com cloudfunctions.googleapis.com \
    cloudscheduler.googleapis.com cloudtasks.googleapis.com firestore.googleapis.com iam.googleapis.com \
    run.googleapis.com secretmanager.googleapis.com ${more[@]+"${more[@]}"}
}

# A new database has no instances yet, and its indexes are still being built.
check_source() {
  say "Check of the source against live instances"
  local command=(gorchestrate check --deployable "$SOURCE/main.py") token=""
  if ! $IS_NEW; then command+=(--against "$PROJECT/$DATABASE"); fi
  show "${command[@]}"
  if $DRY_RUN; then
    printf '    if the database exists: with --against %s\n' "$PROJECT/$DATABASE"
    return
  fi
  $IS_NEW || token=$(gcloud auth print-access-token)
  GOOGLE_ACCESS_TOKEN=$token GORCHESTRATE_INDEX_SHARDS=${INDEX_SHARDS:-1} \
    GORCHESTRATE_SHARDED_INDEXES=${SHARDED_INDEXES:-write} "${command[@]}" ||
    die "no function was deployed: fix what is listed above, or pass --skip-check to deploy anyway"
}

make_folders() {
  STAGE=STAGED_SOURCE TOOLS=BUILD_TOOLS
  if ! $DRY_RUN; then
    STAGE=$(mktemp -d) TOOLS=$(mktemp -d)
    trap 'rm -rf "$STAGE" "$TOOLS"' EXIT
  fi
}

# The functions' source: your code, the wheel of this repository, and requirements pinned to the tested files.
stage_source() {
  local pip=(python3 -m pip --quiet --disable-pip-version-check)
  say "Source from $SOURCE"
  make_folders
  if ! $DRY_RUN; then
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
