# shellcheck shell=bash
# With HOSTING=run: one image for the api and the worker, and the two services on Cloud Run. Source this file, do not run it.

# Functions and services have the same names, and Cloud Run functions are services that must not be changed past them.
refuse_functions() {
  [[ $HOSTING == run ]] || return 0
  local name
  say "Functions with the names of the services"
  for name in "$API_FUNCTION" "$WORKER_FUNCTION"; do
    show gcloud functions describe "$name" --gen2 "${RUN_PLACE[@]}"
    if $DRY_RUN; then continue; fi
    if is_function "$name"; then
      die "$name is a function: remove it with HOSTING=functions and teardown.sh first, or choose other names for API_FUNCTION and" \
        "WORKER_FUNCTION"
    fi
  done
}

is_function() {
  local output
  if output=$(gcloud functions describe "$1" --gen2 "${RUN_PLACE[@]}" 2>&1); then return 0; fi
  is_missing "$output" || die "cannot tell whether $1 is a function: $output"
  return 1
}

# The image is built once, from what would be the source of both functions.
build_image() {
  [[ $HOSTING == run ]] || return 0
  local at=(--project="$PROJECT" --location="$REGION") options=()
  say "Image $IMAGE"
  if ! there gcloud artifacts repositories describe "$REPOSITORY" "${at[@]}"; then
    run gcloud artifacts repositories create "$REPOSITORY" "${at[@]}" --repository-format=docker
  fi
  if ! $DRY_RUN && [[ ! -f $STAGE/Dockerfile ]]; then
    sed "s/^FROM python:[0-9.]*/FROM python:3.${RUNTIME#python3}/" "$HERE/Dockerfile" >"$STAGE/Dockerfile"
  fi
  if [[ -n $BUILD_EMAIL ]]; then options=(--service-account="projects/$PROJECT/serviceAccounts/$BUILD_EMAIL"); fi
  run gcloud builds submit "$STAGE" "${RUN_PLACE[@]}" --config="$HERE/cloudbuild.json" --substitutions="_IMAGE=$IMAGE" \
    --suppress-logs ${options[@]+"${options[@]}"}
}

# The values of INGRESS have other names on Cloud Run.
run_ingress() {
  case $1 in
    internal-only) printf 'internal' ;;
    internal-and-gclb) printf 'internal-and-cloud-load-balancing' ;;
    *) printf '%s' "$1" ;;
  esac
}
