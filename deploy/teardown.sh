#!/usr/bin/env bash
# Removes what deploy.sh created, except the database with its instances and the keys. You can run it repeatedly.
#
#   deploy/teardown.sh [--dry-run] [--yes] [--delete-data] [SETTINGS]
#
# --yes skips the confirmation. --delete-data also deletes the database and the keys. --dry-run only prints the commands.
# APIs stay enabled, because other services may use them.
set -euo pipefail
unset CDPATH # with it, cd prints where it goes
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/lib.sh
source "$HERE/lib.sh"
# shellcheck source=deploy/settings.sh
source "$HERE/settings.sh"
# shellcheck source=deploy/database.sh
source "$HERE/database.sh"
# shellcheck source=deploy/monitoring.sh
source "$HERE/monitoring.sh"
# shellcheck source=deploy/keys.sh
source "$HERE/keys.sh"

main() {
  local settings="$HERE/settings.env" yes=false delete_data=false argument account role
  for argument in "$@"; do
    case $argument in
      --dry-run) DRY_RUN=true ;;
      --yes) yes=true ;;
      --delete-data) delete_data=true ;;
      -h | --help) sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit ;;
      -*) die "unknown option $argument. Available: --dry-run, --yes, --delete-data, --help" ;;
      *) settings=$argument ;;
    esac
  done
  load_settings "$settings"
  derive
  need_gcloud
  if $DRY_RUN; then
    printf 'Dry run: nothing is sent, nothing is changed.\n'
  elif ! $yes; then
    confirm "$delete_data"
  fi

  delete_alerts
  local at=(--project="$PROJECT" --location="$REGION")
  say "Scheduler job $RECOVERY_JOB"
  remove gcloud scheduler jobs delete "$RECOVERY_JOB" "${at[@]}"
  remove_functions
  local queue
  find_queues
  for queue in "${ALL_QUEUES[@]}"; do
    say "Task queue $queue, with all its tasks (its name may be blocked for three days)"
    remove gcloud tasks queues delete "$queue" "${at[@]}"
  done
  say "Keys in Secret Manager"
  if $delete_data; then for_each_key delete_key; else for_each_key deny_key; fi
  say "Roles and service accounts"
  for account in "$API_EMAIL" "$WORKER_EMAIL"; do
    remove gcloud projects remove-iam-policy-binding "$PROJECT" \
      --member="serviceAccount:$account" --role=roles/datastore.user --condition="$DATABASE_CONDITION"
    remove gcloud iam service-accounts delete "$account" --project="$PROJECT"
  done
  remove gcloud iam service-accounts delete "$TASKS_EMAIL" --project="$PROJECT"
  if [[ $BUILD_EMAIL != "$BUILD_ACCOUNT" ]]; then
    for role in roles/storage.objectViewer roles/logging.logWriter roles/artifactregistry.writer; do
      remove gcloud projects remove-iam-policy-binding "$PROJECT" \
        --member="serviceAccount:$BUILD_EMAIL" --role="$role" --condition=None
    done
    remove gcloud iam service-accounts delete "$BUILD_EMAIL" --project="$PROJECT"
  fi
  if $delete_data; then
    say "Firestore database $DATABASE, with all instances"
    remove gcloud firestore databases update --project="$PROJECT" --database="$DATABASE" --no-delete-protection
    remove gcloud firestore databases delete --project="$PROJECT" --database="$DATABASE"
  else
    say "The database $DATABASE and the keys are kept. Pass --delete-data to delete them."
  fi
}

remove_functions() {
  local name
  say "${KIND}s"
  for name in "$API_FUNCTION" "$WORKER_FUNCTION"; do
    if [[ $HOSTING == run ]]; then
      remove gcloud run services delete "$name" "${RUN_PLACE[@]}"
    else
      remove gcloud functions delete "$name" --gen2 "${RUN_PLACE[@]}"
    fi
  done
  [[ $HOSTING == run ]] || return 0
  say "Images in the repository $REPOSITORY"
  remove gcloud artifacts repositories delete "$REPOSITORY" --project="$PROJECT" --location="$REGION"
}

# Adds the queues that the deployment had before, and removes its mark from the database.
find_queues() {
  local output queue
  say "Mark of the deployment in the database $DATABASE"
  if $DRY_RUN; then
    printf '    removed; the queues that it names are deleted too\n'
    return
  fi
  output=$(marking release) || die "cannot remove the mark"
  for queue in $output; do
    if [[ " ${ALL_QUEUES[*]} " != *" $queue "* ]]; then ALL_QUEUES+=("$queue"); fi
  done
}

confirm() {
  local answer what="the functions, the queue with its tasks, the accounts"
  if $1; then what="$what AND THE DATABASE $DATABASE WITH ALL ITS DATA AND KEYS"; fi
  printf 'This removes from project %s: %s.\nEnter the project to continue: ' "$PROJECT" "$what"
  read -r answer || true
  [[ $answer == "$PROJECT" ]] || die "not confirmed: nothing was removed"
}

main "$@"
