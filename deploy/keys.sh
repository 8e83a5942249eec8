# shellcheck shell=bash
# The secrets in Secret Manager that contain the keys of the functions, and who may read them. Source this file, do not
# run it.
#
# A key is made here and goes to gcloud through its standard input. It is in no file, no argument and no output. What is
# in a secret is never changed: with other keys, nobody could read what is stored.

# Marks a secret as one of this deployment, so that teardown.sh deletes no other one.
KEYS_LABEL=gorchestrate

# for_each_key COMMAND...: runs it with the name of each secret that is used, and the accounts that need it. The worker
# has no pages, so it never sees the keys of their cookies. Callback URLs are signed by the one and checked by the other.
for_each_key() {
  if [[ $SECRET_KEYS != none ]]; then "$@" "$SECRET_KEYS" "$API_EMAIL" "$WORKER_EMAIL"; fi
  if [[ $CALLBACK_KEYS != none ]]; then "$@" "$CALLBACK_KEYS" "$API_EMAIL" "$WORKER_EMAIL"; fi
  if [[ $SESSION_KEYS != none ]]; then "$@" "$SESSION_KEYS" "$API_EMAIL"; fi
}

create_keys() {
  say "Keys in Secret Manager"
  for_each_key create_key
}

# create_key SECRET ACCOUNT...
create_key() {
  local secret=$1 account key command
  shift
  if ! there gcloud secrets describe "$secret" --project="$PROJECT"; then
    run gcloud secrets create "$secret" --project="$PROJECT" --replication-policy=automatic \
      --labels="$KEYS_LABEL=$WORKER_FUNCTION"
  fi
  # An interrupted run may have created the secret only.
  if ! there gcloud secrets versions describe latest --project="$PROJECT" --secret="$secret"; then
    command=(gcloud secrets versions add "$secret" --project="$PROJECT" --data-file=-)
    show "${command[@]}"
    if ! $DRY_RUN; then
      key=$(new_key) # first, because gcloud would store what a failed command has not printed
      printf '%s\n' "$key" | "${command[@]}" >"$STEP_OUTPUT"
    fi
  fi
  for account in "$@"; do
    eventually gcloud secrets add-iam-policy-binding "$secret" --project="$PROJECT" \
      --member="serviceAccount:$account" --role=roles/secretmanager.secretAccessor
  done
}

# The form that all three settings accept: 32 random bytes in URL-safe base64, as `gorchestrate secret-key` prints them.
new_key() {
  python3 -c 'import base64, secrets; print(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())'
}

# Adds the keys of a function to the `variables`, `removed`, `secrets` and `removed_secrets` of deploy_function: a variable
# cannot be a secret and a text at the same time.
add_keys() {
  local account=$1
  add_key GORCHESTRATE_SECRET_KEYS "$SECRET_KEYS"
  add_key GORCHESTRATE_CALLBACK_KEYS "$CALLBACK_KEYS"
  if [[ $account == "$API_EMAIL" ]]; then add_key GORCHESTRATE_SESSION_KEYS "$SESSION_KEYS"; fi
}

add_key() {
  if [[ $2 == none ]]; then
    variables+=("$1=none") removed_secrets+=("$1")
  else
    secrets+=("$1=$2:latest") removed+=("$1")
  fi
}

# delete_key SECRET ACCOUNT...: deletes a secret that create_key has made.
delete_key() {
  local command owner
  command=(gcloud secrets describe "$1" --project="$PROJECT" --format="value(labels.$KEYS_LABEL)")
  show "${command[@]}"
  if ! $DRY_RUN; then
    if ! owner=$("${command[@]}" 2>&1); then
      is_missing "$owner" || die "cannot tell who has made the secret $1: $owner"
      printf '    already removed\n'
      return
    elif [[ $owner != "$WORKER_FUNCTION" ]]; then
      printf '    kept: deploy.sh has not made it for this deployment\n'
      deny_key "$@"
      return
    fi
  fi
  remove gcloud secrets delete "$1" --project="$PROJECT"
}

# deny_key SECRET ACCOUNT...: the accounts may no longer read a secret, which is kept.
deny_key() {
  local secret=$1 account
  shift
  for account in "$@"; do
    remove gcloud secrets remove-iam-policy-binding "$secret" --project="$PROJECT" \
      --member="serviceAccount:$account" --role=roles/secretmanager.secretAccessor
  done
}
