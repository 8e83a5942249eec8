# shellcheck shell=bash
# The service accounts, the queues, and who may do what. Source this file, do not run it.

create_accounts() {
  say "Service accounts"
  create_account "$API_ACCOUNT" "$API_EMAIL" "gorchestrate: identity of the api"
  create_account "$WORKER_ACCOUNT" "$WORKER_EMAIL" "gorchestrate: identity of the worker"
  create_account "$TASKS_ACCOUNT" "$TASKS_EMAIL" "gorchestrate: may call the worker"
  # Any other build account is the user's, with roles that the user gives.
  if [[ $BUILD_EMAIL != "$BUILD_ACCOUNT" ]]; then
    create_account "$BUILD_ACCOUNT" "$BUILD_EMAIL" "gorchestrate: builds the functions"
  fi
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

# Removes the queues that the deployment had before. Kept are those with tasks, which are still delivered, and those of the
# deployment that a rollback brings back.
remove_old_queues() {
  if $DRY_RUN; then
    say "Queues that were used before"
    printf '    deleted if the settings no longer name them, they have no tasks, and no rollback needs them\n'
  fi
  ((${#OLD_QUEUES[@]})) || return 0
  local queue needed output count files=() at=(--project="$PROJECT" --location="$REGION") kept="is no longer used, and is kept:"
  say "Queues that were used before"
  read_revisions
  needed=$(python3 "$HERE/revisions.py" queues "${files[@]}") || die "cannot tell which queues are still used"
  for queue in "${OLD_QUEUES[@]}"; do
    if there gcloud tasks queues describe "$queue" "${at[@]}"; then
      if [[ $'\n'$needed$'\n' == *$'\n'$queue$'\n'* ]]; then
        say "The queue $queue $kept a rollback needs it. A later deployment deletes it, if it has no tasks then"
        continue
      fi
      show gcloud tasks list --queue="$queue" "${at[@]}" --limit=1001
      output=$(gcloud tasks list --queue="$queue" "${at[@]}" --limit=1001 --format='value(scheduleTime)') ||
        die "cannot tell whether the queue $queue has tasks"
      if [[ -n $output ]]; then
        count=$(wc -l <<<"$output")
        if ((count > 1000)); then count="more than 1000"; else count=$((count)); fi
        say "The queue $queue $kept it has tasks ($count), the last of them due at $(sort <<<"$output" | tail -n 1). They are" \
          "delivered as before. Deploy again after that: without tasks, the queue is deleted"
        continue
      fi
      remove gcloud tasks queues delete "$queue" "${at[@]}"
    fi
    marking forget "$queue" || die "cannot remove the queue $queue from the mark of the deployment"
  done
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

# Reads the source, writes the log of the build, and stores the image. Without an account of its own, the build runs as the
# project's default account, which may often do everything in the project.
grant_build_roles() {
  [[ $BUILD_EMAIL != "$BUILD_ACCOUNT" ]] || return 0
  local role
  say "Roles of $BUILD_ACCOUNT"
  for role in roles/storage.objectViewer roles/logging.logWriter roles/artifactregistry.writer; do
    eventually gcloud projects add-iam-policy-binding "$PROJECT" \
      --member="serviceAccount:$BUILD_EMAIL" --role="$role" --condition=None
  done
}

# grant_queue MEMBER ROLE QUEUE
grant_queue() {
  eventually gcloud tasks queues add-iam-policy-binding "$3" --project="$PROJECT" --location="$REGION" \
    --member="$1" --role="$2"
}
