# shellcheck shell=bash
# The Firestore database: creates it, or compares the one that exists with the settings; its backups and its indexes.
# Source this file, do not run it.
# shellcheck disable=SC2034,SC2153 # what other files set or use

INDEX_SECONDS_MAX=${INDEX_SECONDS_MAX:-900} # the indexes of a large database take longer: then the next run waits again

create_database() {
  say "Firestore database $DATABASE"
  local options=()
  IS_NEW=false
  if there gcloud firestore databases describe "${DATABASE_PLACE[@]}"; then
    fix_database
    return
  fi
  IS_NEW=true
  if [[ $PITR == true ]]; then options=(--enable-pitr); fi
  run gcloud firestore databases create "${DATABASE_PLACE[@]}" \
    --location="$FIRESTORE_LOCATION" --type=firestore-native --delete-protection ${options[@]+"${options[@]}"}
}

# What can be changed is changed. A database can change neither its location nor, once it has documents, its mode.
fix_database() {
  local command output type location protection recovery changes=()
  command=(gcloud firestore databases describe "${DATABASE_PLACE[@]}"
    '--format=value[separator="|"](type,locationId,deleteProtectionState,pointInTimeRecoveryEnablement)')
  show "${command[@]}"
  output=$("${command[@]}") || die "cannot read the database $DATABASE"
  IFS='|' read -r type location protection recovery <<<"$output"
  [[ $type == FIRESTORE_NATIVE ]] ||
    die "the database $DATABASE is of the type $type, but gorchestrate needs Firestore in native mode: choose another DATABASE"
  [[ $location == "$FIRESTORE_LOCATION" ]] ||
    die "the database $DATABASE is in $location, not in $FIRESTORE_LOCATION, and cannot be moved: write" \
      "FIRESTORE_LOCATION=$location, or choose another DATABASE"
  if [[ $protection != DELETE_PROTECTION_ENABLED ]]; then changes+=(--delete-protection); fi
  if [[ $PITR == true && $recovery != POINT_IN_TIME_RECOVERY_ENABLED ]]; then changes+=(--enable-pitr); fi
  if [[ $PITR == false && $recovery == POINT_IN_TIME_RECOVERY_ENABLED ]]; then changes+=(--no-enable-pitr); fi
  if ((${#changes[@]})); then run gcloud firestore databases update "${DATABASE_PLACE[@]}" "${changes[@]}"; fi
}

schedule_backups() {
  [[ -n $DAILY_BACKUPS$WEEKLY_BACKUPS ]] || return 0
  say "Backup schedules of the database $DATABASE"
  schedule_backup daily "$DAILY_BACKUPS" --recurrence=daily
  schedule_backup weekly "$WEEKLY_BACKUPS" --recurrence=weekly --day-of-week=SUN
}

# schedule_backup KIND RETENTION OPTION...: a database has at most one schedule of each kind. Only weekly ones have a day.
schedule_backup() {
  local kind=$1 retention=$2 command output="" id kept day schedules=(gcloud firestore backups schedules)
  shift 2
  [[ -n $retention ]] || return 0
  command=("${schedules[@]}" list "${DATABASE_PLACE[@]}"
    '--format=value[separator="|"](name.basename(),retention,weeklyRecurrence.day)')
  show "${command[@]}"
  if ! $DRY_RUN; then output=$("${command[@]}") || die "cannot read the backup schedules of $DATABASE"; fi
  while IFS='|' read -r id kept day; do
    if [[ -n $id && $kind == $([[ -n $day ]] && echo weekly || echo daily) ]]; then
      if [[ $retention == none ]]; then
        run "${schedules[@]}" delete "${DATABASE_PLACE[@]}" --backup-schedule="$id"
      elif [[ $kept != "$(seconds_of "$retention")s" ]]; then
        run "${schedules[@]}" update "${DATABASE_PLACE[@]}" --backup-schedule="$id" --retention="$retention"
      fi
      return
    fi
  done <<<"$output"
  if [[ $retention != none ]]; then
    run "${schedules[@]}" create "${DATABASE_PLACE[@]}" "$@" --retention="$retention"
  fi
}

# seconds_of DURATION: 7d or 14w.
seconds_of() { printf '%s' $((${1%[dw]} * ($([[ $1 == *w ]] && echo 7 || echo 1)) * 86400)); }

# gcloud cannot do this: its `firestore indexes fields update` has no collection-group scope.
apply_indexes() {
  say "Firestore indexes and TTL policies from $HERE/firestore.indexes.json"
  local options=() token=""
  if $DRY_RUN; then options=(--dry-run); else token=$(gcloud auth print-access-token); fi
  if ((${INDEX_SHARDS:-1} > 1)); then options+=(--sharded-indexes "${SHARDED_INDEXES:-write}"); fi
  # A new database is empty: its indexes are ready before the functions are.
  if $IS_NEW; then options+=(--new); else options+=(--wait="$INDEX_SECONDS_MAX"); fi
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

# The database is that of this deployment, or of none. Sets OLD_QUEUES to the queues that the deployment had before.
claim_database() {
  say "Deployment of the database $DATABASE: $DEPLOYMENT"
  local output
  OLD_QUEUES=()
  if $DRY_RUN; then
    printf '    noted in its document gorchestrate/deployment, unless it belongs to another deployment\n'
    return
  fi
  output=$(marking claim "${ALL_QUEUES[@]}") || die "nothing was deployed"
  if [[ -n $output ]]; then IFS=$'\n' read -r -d '' -a OLD_QUEUES <<<"$output" || true; fi
}

# marking claim|forget|release [QUEUE...]: prints queues.
marking() {
  GOOGLE_ACCESS_TOKEN=$(gcloud auth print-access-token) python3 "$HERE/claim.py" "$@" "${DATABASE_PLACE[@]}" \
    --deployment="$DEPLOYMENT"
}
