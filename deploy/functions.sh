# shellcheck shell=bash
# The two functions, or services: their settings, who may call them, and from where. Source this file, do not run it.

# deploy_function NAME ENTRY_POINT ACCOUNT TIMEOUT INSTANCES_MAX INGRESS [OPTION...]
deploy_function() {
  local name=$1 entry_point=$2 account=$3 timeout=$4 instances_max=$5 reach=$6 joined
  local deploy=() variables=() options=() removed=() secrets=() removed_secrets=()
  shift 6
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
    "GORCHESTRATE_RELEASE=$RELEASE"
  )
  if [[ $ACCESS == open ]]; then
    variables+=(GORCHESTRATE_ACCESS=open)
  else
    removed+=(GORCHESTRATE_ACCESS)
  fi
  if [[ -n $KMS_KEY ]]; then variables+=("GORCHESTRATE_KMS_KEY=$KMS_KEY"); fi
  add_keys "$account"
  if [[ $HOSTING == run ]]; then
    deploy=(gcloud run deploy "$name" "${RUN_PLACE[@]}" --image="$IMAGE")
    variables+=("FUNCTION_TARGET=$entry_point")
    if [[ -n $reach ]]; then options+=(--ingress="$(run_ingress "$reach")"); fi
  else
    deploy=(gcloud functions deploy "$name" --gen2 "${RUN_PLACE[@]}" --source="$STAGE" --entry-point="$entry_point"
      --runtime="$RUNTIME" --trigger-http --serve-all-traffic-latest-revision)
    if [[ -n $BUILD_EMAIL ]]; then options+=(--build-service-account="projects/$PROJECT/serviceAccounts/$BUILD_EMAIL"); fi
    if [[ -n $reach ]]; then options+=(--ingress-settings="$reach"); fi
  fi
  joined=$(joined_variables "${variables[@]}")
  if ((${#removed[@]})); then options+=("--remove-env-vars=$(joined_names "${removed[@]}")"); fi
  if ((${#secrets[@]})); then options+=("--update-secrets=$(joined_names "${secrets[@]}")"); fi
  if ((${#removed_secrets[@]})); then options+=("--remove-secrets=$(joined_names "${removed_secrets[@]}")"); fi
  # update-env-vars, not set-env-vars: keeps variables and secrets that the user added.
  run "${deploy[@]}" --service-account="$account" ${options[@]+"${options[@]}"} --update-env-vars="$joined" \
    --memory="$MEMORY" --cpu="$CPU" --concurrency="$CONCURRENCY" --timeout="$timeout" \
    --min-instances="$INSTANCES_MIN" --max-instances="$instances_max" "$@"
  serve_deployed "$name"
}

deploy_worker() {
  say "$KIND $WORKER_FUNCTION: private, reachable only by Cloud Tasks and Cloud Scheduler"
  choose_worker_auth
  send_worker
  check_worker_url
  eventually gcloud run services add-iam-policy-binding "$WORKER_FUNCTION" --project="$PROJECT" --region="$REGION" \
    --member="serviceAccount:$TASKS_EMAIL" --role=roles/run.invoker
}

send_worker() {
  deploy_function "$WORKER_FUNCTION" worker "$WORKER_EMAIL" "$WORKER_TIMEOUT" "$WORKER_INSTANCES_MAX" \
    internal-only --no-allow-unauthenticated
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
  local option=--no-allow-unauthenticated
  if $PUBLIC; then option=--allow-unauthenticated; fi
  say "$KIND $API_FUNCTION: $($PUBLIC && echo 'public' || echo 'private')"
  deploy_function "$API_FUNCTION" api "$API_EMAIL" "$API_TIMEOUT" "$API_INSTANCES_MAX" "$INGRESS" "$option"
}
