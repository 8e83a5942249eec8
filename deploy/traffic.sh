# shellcheck shell=bash disable=SC2034
# Which revisions of the two services get requests: those that were just deployed, or those of the deployment before, after
# `deploy.sh --rollback`. Source this file, do not run it.

# Each revision has the time of its deployment in GORCHESTRATE_RELEASE. By it, a rollback finds revisions that belong together.
# So has each image with HOSTING=run.
RELEASE=RELEASE IMAGE=IMAGE
name_release() {
  if ! $DRY_RUN; then RELEASE=$(date -u +%Y%m%dT%H%M%SZ); fi
  IMAGE=$REGION-docker.pkg.dev/$PROJECT/$REPOSITORY/source:$RELEASE
}

# serve_deployed SERVICE: the newest revision must get all requests. After a rollback, the traffic is on a revision, and
# stays there when a new one is deployed.
serve_deployed() {
  local latest served
  read_traffic "$1"
  if $DRY_RUN || [[ $served == "$latest" ]]; then return; fi
  run gcloud run services update-traffic "$1" "${RUN_PLACE[@]}" --to-latest
  read_traffic "$1"
  [[ $served == "$latest" ]] ||
    die "$latest of $1 was deployed, but $served gets its requests: read the state of the service in the console of Cloud Run"
}

# serve_revision SERVICE REVISION
serve_revision() {
  local latest served
  run gcloud run services update-traffic "$1" "${RUN_PLACE[@]}" --to-revisions="$2=100"
  read_traffic "$1"
  if $DRY_RUN || [[ $served == "$2" ]]; then return; fi
  die "$1 was to serve $2, but $served gets its requests"
}

# Sets `served` and `latest` for a service.
read_traffic() {
  local command=(gcloud run services describe "$1" "${RUN_PLACE[@]}" --format=json) output
  show "${command[@]}"
  if $DRY_RUN; then return; fi
  output=$("${command[@]}") || die "cannot read which revision of $1 gets requests"
  read -r served latest < <(python3 "$HERE/revisions.py" serving <(printf '%s' "$output"))
}

# Sets `files` to what Cloud Run says of both services and their revisions.
read_revisions() {
  local service
  files=()
  for service in "$API_FUNCTION" "$WORKER_FUNCTION"; do
    show gcloud run services describe "$service" "${RUN_PLACE[@]}" --format=json
    show gcloud run revisions list --service="$service" "${RUN_PLACE[@]}" --format=json
    if $DRY_RUN; then continue; fi
    gcloud run services describe "$service" "${RUN_PLACE[@]}" --format=json >"$TOOLS/$service.json" ||
      die "cannot read the service $service"
    gcloud run revisions list --service="$service" "${RUN_PLACE[@]}" --format=json >"$TOOLS/$service-revisions.json" ||
      die "cannot read the revisions of $service"
    files+=("$TOOLS/$service.json" "$TOOLS/$service-revisions.json")
  done
}

# The api first, so that nothing is created which the earlier worker does not know.
roll_back() {
  say "The deployment before the one that serves"
  local release=RELEASE api=API_REVISION worker=WORKER_REVISION output queue queues="" files=()
  read_revisions
  if ! $DRY_RUN; then
    output=$(python3 "$HERE/revisions.py" previous "${files[@]}") || die "nothing was changed"
    read -r release api worker queues <<<"$output"
  fi
  for queue in $queues; do
    there gcloud tasks queues describe "$queue" --project="$PROJECT" --location="$REGION" ||
      die "the release $release creates its tasks in the queue $queue, which no longer exists. Nothing was changed"
  done
  say "Requests go to the release $release"
  serve_revision "$API_FUNCTION" "$api"
  serve_revision "$WORKER_FUNCTION" "$worker"
  check_canary
  say "Done: $release serves. Instances that only the later code supports wait, unchanged. The next deployment serves itself again"
}
