# shellcheck shell=bash
# The canary: one task through the real queue to the worker. It fails where every other task would fail, before the api
# accepts requests whose tasks nobody runs. Source this file, do not run it.
#
# On a private service, Cloud Run checks a token and may then remove its signature: the worker sees a token that it
# cannot check, and answers 401. Only then, and only while nobody can reach the worker without Cloud Run's check, the
# worker is told to leave the signature to it: GORCHESTRATE_WORKER_AUTH=iam.

CANARY_SECONDS_MAX=${CANARY_SECONDS_MAX:-300} # a new role may take minutes to apply
CANARY_SECONDS=3
WORKER_AUTH=oidc

# Keeps what an earlier canary has found, so that tasks are not refused while a new one is on its way.
choose_worker_auth() {
  local command=(gcloud functions describe "$WORKER_FUNCTION" --gen2 --project="$PROJECT" --region="$REGION"
    --format='value(serviceConfig.environmentVariables.GORCHESTRATE_WORKER_AUTH)') output iam='^iam$'
  if [[ $HOSTING == run ]]; then
    command=(gcloud run services describe "$WORKER_FUNCTION" "${RUN_PLACE[@]}" --format=json)
    iam='"name": "GORCHESTRATE_WORKER_AUTH",[[:space:]]*"value": "iam"'
  fi
  show "${command[@]}"
  if $DRY_RUN; then return; fi
  if ! output=$("${command[@]}" 2>&1); then
    is_missing "$output" || die "cannot tell how the worker checks tokens: $output"
  elif [[ $output =~ $iam ]] && is_private; then
    WORKER_AUTH=iam
  fi
}

try_worker() {
  say "Canary: one task through the queue to the worker"
  local status=200
  send_canary
  if [[ $status == 401 && $WORKER_AUTH == oidc ]]; then
    say "The worker received a token that it cannot check. Cloud Run removes signatures on private services"
    is_private || die "$PUBLIC_WORKER"
    WORKER_AUTH=iam
    send_worker
    send_canary
  fi
  judge_canary
  # After the last deployment of the worker: nobody may have made it public in the meantime.
  if [[ $WORKER_AUTH == iam ]] && ! is_private; then die "$PUBLIC_WORKER"; fi
}

# The worker that serves now, as it is.
check_canary() {
  say "Canary: one task through the queue to the worker"
  local status=200
  send_canary
  judge_canary
}

judge_canary() {
  case $status in
    200) ;;
    none) die "the canary was not delivered within $CANARY_SECONDS_MAX s. Is the queue paused? gcloud tasks queues describe $QUEUE" ;;
    401 | 403) die "Cloud Run or the worker refuses the token of $TASKS_EMAIL with status $status. $CANARY_LOGS" ;;
    *) die "the worker answers tasks with status $status. $CANARY_LOGS" ;;
  esac
}

# Sets `status` to what the worker answered the canary, or to `none`.
send_canary() {
  local id place seconds
  place=(--project="$PROJECT" --location="$REGION" --queue="$QUEUE")
  id=CANARY
  if ! $DRY_RUN; then id="canary-$(date +%s)-$RANDOM"; fi
  run gcloud tasks create-http-task "$id" "${place[@]}" --url="$WORKER_URL/canary" --method=POST \
    --oidc-service-account-email="$TASKS_EMAIL" --oidc-token-audience="$WORKER_URL"
  show gcloud tasks describe "$id" "${place[@]}"
  if $DRY_RUN; then return; fi
  for ((seconds = 0; seconds < CANARY_SECONDS_MAX; seconds += CANARY_SECONDS)); do
    canary_status
    # Anything else may pass: roles that were just granted do not apply everywhere yet.
    if [[ $status == 200 || $status == 401 ]]; then break; fi
    sleep "$CANARY_SECONDS"
  done
  if [[ $status != 200 ]]; then remove gcloud tasks delete "$id" "${place[@]}"; fi
}

# A task that was answered with 2xx is gone. Of any other, the queue tells how its last attempt was answered.
canary_status() {
  local output
  status=none
  if ! output=$(gcloud tasks describe "$id" "${place[@]}" \
    --format='value(lastAttempt.responseTime,lastAttempt.responseStatus.message)' 2>&1); then
    is_missing "$output" || die "cannot read the canary: $output"
    status=200
  elif [[ $output =~ HTTP\ status\ code\ ([0-9]+) ]]; then
    status=${BASH_REMATCH[1]}
  elif [[ $output =~ UNAUTHENTICATED|\(16\) ]]; then
    status=401
  elif [[ -n ${output//[[:space:]]/} ]]; then
    status="unknown ($output)"
  fi
}

# Whether Cloud Run checks the token of each request to the worker. Any doubt is a no.
is_private() {
  local service policy project at=(--project="$PROJECT" --region="$REGION")
  service=$(gcloud run services describe "$WORKER_FUNCTION" "${at[@]}" --format=json) &&
    policy=$(gcloud run services get-iam-policy "$WORKER_FUNCTION" "${at[@]}" --format=json) &&
    project=$(gcloud projects get-iam-policy "$PROJECT" --format=json) || return 1
  [[ $policy == *\"serviceAccount:$TASKS_EMAIL\"* && $policy$project != *'"allUsers"'* ]] &&
    [[ $policy$project != *'"allAuthenticatedUsers"'* ]] &&
    [[ ! $service =~ invoker-iam-disabled\":\ *\"?[Tt]rue ]]
}

PUBLIC_WORKER="the worker is not private: allUsers or allAuthenticatedUsers has a role on it or on the project, or Cloud Run's \
check of tokens is switched off. Remove that, and run this script again"
CANARY_LOGS="Read its log: gcloud run services logs read"
