# shellcheck shell=bash
# The alerts and the dashboard, from the templates in monitoring/. Source this file, do not run it.

# gcloud has the commands for alert policies in its component "alpha" only.
ALERT_NAMES=(late-tasks worker-errors recovery-failures failed-instances)

create_alerts() {
  [[ -n $ALERTS ]] || return 0
  say "Alerts for $ALERTS, and a dashboard"
  local name policy verb=create queues filter=FILTER command output=""
  queues=$(IFS='|' && printf '%s' "${ALL_QUEUES[*]}")
  if ! $DRY_RUN; then
    filter=$(python3 "$HERE/monitoring.py" "$TOOLS" "channel=$ALERTS" "api=$API_FUNCTION" "worker=$WORKER_FUNCTION" \
      "job=$RECOVERY_JOB" "region=$REGION" "queues=$queues" "metric=$FAILED_METRIC")
  fi
  # The metric first: a policy cannot name one that does not exist.
  if there gcloud logging metrics describe "$FAILED_METRIC" --project="$PROJECT"; then verb=update; fi
  run gcloud logging metrics "$verb" "$FAILED_METRIC" --project="$PROJECT" \
    --description="gorchestrate: instances that have failed" --log-filter="$filter"
  list_alerts
  for name in "${ALERT_NAMES[@]}"; do
    policy=$(sed -n "s/|$name\$//p" <<<"$output")
    if [[ -n $policy ]]; then
      run gcloud alpha monitoring policies update "$policy" --project="$PROJECT" --policy-from-file="$TOOLS/alert-$name.json"
    else
      eventually gcloud alpha monitoring policies create --project="$PROJECT" --policy-from-file="$TOOLS/alert-$name.json"
    fi
  done
  list_dashboards
  # One that exists may have been changed in the console.
  if [[ -z $output ]]; then
    run gcloud monitoring dashboards create --project="$PROJECT" --config-from-file="$TOOLS/dashboard.json"
  fi
}

# Sets `output` to the alert policies of this deployment, as lines of NAME|ALERT.
list_alerts() {
  command=(gcloud alpha monitoring policies list --project="$PROJECT" --filter="user_labels.gorchestrate=\"$WORKER_FUNCTION\""
    '--format=value[separator="|"](name,userLabels.alert)')
  list_monitoring
}

list_dashboards() {
  command=(gcloud monitoring dashboards list --project="$PROJECT" --filter="labels.gorchestrate:$WORKER_FUNCTION"
    '--format=value(name)')
  list_monitoring
}

list_monitoring() {
  show "${command[@]}"
  if ! $DRY_RUN; then output=$("${command[@]}") || die "cannot read what Cloud Monitoring has of this deployment"; fi
}

delete_alerts() {
  [[ -n $ALERTS ]] || return 0
  say "Alerts and dashboard"
  local command output="" line
  list_alerts
  while read -r line; do
    if [[ -n $line ]]; then remove gcloud alpha monitoring policies delete "${line%%|*}" --project="$PROJECT"; fi
  done <<<"$output"
  list_dashboards
  while read -r line; do
    if [[ -n $line ]]; then remove gcloud monitoring dashboards delete "$line" --project="$PROJECT"; fi
  done <<<"$output"
  remove gcloud logging metrics delete "$FAILED_METRIC" --project="$PROJECT"
}
