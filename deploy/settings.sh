# shellcheck shell=bash disable=SC2034
# The settings of deploy.sh and teardown.sh: reads them, checks each, and derives further values. Source this file, do
# not run it.

# All of these must be in the settings file. settings.env.example explains them.
REQUIRED=(
  PROJECT REGION FIRESTORE_LOCATION DATABASE
  QUEUE QUEUE_DISPATCHES_PER_SECOND QUEUE_CONCURRENT_DISPATCHES
  QUEUE_ATTEMPTS QUEUE_RETRY_DURATION QUEUE_BACKOFF_MIN QUEUE_BACKOFF_MAX QUEUE_DOUBLINGS
  API_ACCOUNT WORKER_ACCOUNT TASKS_ACCOUNT
  SOURCE RUNTIME API_FUNCTION WORKER_FUNCTION PUBLIC UI
  MEMORY CPU CONCURRENCY INSTANCES_MIN API_INSTANCES_MAX WORKER_INSTANCES_MAX API_TIMEOUT WORKER_TIMEOUT
  LEASE_SECONDS RECOVERY_SCHEDULE SECRET_KEYS CALLBACK_KEYS SESSION_KEYS LOG_LEVEL
)
OPTIONAL=(
  ACCESS ACTIVITY_QUEUE ALERTS BUILD_ACCOUNT DAILY_BACKUPS HOSTING INDEX_SHARDS INGRESS KMS_KEY LAZY_TIMER_SECONDS PITR PUBLIC_URL
  QUEUES RATE_LIMIT SHARDED_INDEXES WEEKLY_BACKUPS
)

# Reads NAME=value lines. The file is data: nothing in it is executed.
load_settings() {
  local file=$1 line number=0 name value
  [[ -f $file ]] || die "settings file $file not found: copy $HERE/settings.env.example to it and edit it"
  for name in "${REQUIRED[@]}" "${OPTIONAL[@]}"; do printf -v "$name" '%s' ''; done
  while IFS= read -r line || [[ -n $line ]]; do
    number=$((number + 1))
    line=${line%$'\r'}
    if [[ $line =~ ^[[:space:]]*(#.*)?$ ]]; then continue; fi
    [[ $line =~ ^([A-Z_]+)=(.*)$ ]] || die "$file:$number: expected NAME=value, found: $line"
    name=${BASH_REMATCH[1]} value=${BASH_REMATCH[2]}
    [[ " ${REQUIRED[*]} ${OPTIONAL[*]} " == *" $name "* ]] || die "$file:$number: unknown setting $name: see $HERE/settings.env.example"
    if [[ $value =~ ^\"(.*)\"$ || $value =~ ^\'(.*)\'$ ]]; then value=${BASH_REMATCH[1]}; fi
    [[ ! $value =~ [[:cntrl:]] ]] || die "$file:$number: $name contains a control character: remove it"
    printf -v "$name" '%s' "$value"
  done <"$file"
  for name in "${REQUIRED[@]}"; do
    [[ -n ${!name} ]] || die "$file: $name is missing: see $HERE/settings.env.example"
  done
  check_settings "$file"
}

# find_source FILE: makes SOURCE absolute. It is relative to the folder of the settings file; in deploy/, to the repository.
find_source() {
  local base
  base=$(cd "$(dirname "$1")" && pwd)
  [[ $base != "$HERE" ]] || base=$(dirname "$HERE")
  [[ $SOURCE == /* ]] || SOURCE="$base/$SOURCE"
}

# Names end up in IAM members and conditions, in lists that gcloud splits at commas, and in URLs. None may contain
# characters with a meaning there. SOURCE and RECOVERY_SCHEDULE are only ever an argument of their own.
check_settings() {
  local file=$1 hint
  expect '^[a-z][a-z0-9-]{4,28}[a-z0-9]$' 'lower-case letters, digits and hyphens, 6 to 30 of them' \
    PROJECT API_ACCOUNT WORKER_ACCOUNT TASKS_ACCOUNT
  expect '^[a-z][a-z0-9-]*$' 'write a location such as us-central1' REGION FIRESTORE_LOCATION
  [[ $DATABASE != postgres*://* ]] ||
    die "$file: DATABASE is a URL of PostgreSQL, but this script deploys on Firestore and Cloud Tasks. $HERE/README.md, A container," \
      "shows how to deploy on PostgreSQL"
  expect '^(\(default\)|[a-z][a-z0-9-]{2,61}[a-z0-9])$' 'write (default), or lower-case letters, digits and hyphens' DATABASE
  expect '^[A-Za-z0-9-]{1,100}$' 'letters, digits and hyphens, at most 100 of them' QUEUE ACTIVITY_QUEUE
  expect '^[1-9][0-9]?$' 'write a number of queues from 1 to 99, or nothing' QUEUES
  expect '^([1-9]|[12][0-9]|30)$' 'write a number of shards from 1 to 30, or nothing' INDEX_SHARDS
  expect '^(write|read|only)$' 'write write, read or only, or nothing' SHARDED_INDEXES
  expect '^([a-z][a-z0-9-]{4,28}[a-z0-9]|[A-Za-z0-9.-]+@[A-Za-z0-9.-]+)$' \
    'write a name of 6 to 30 lower-case letters, digits and hyphens, or the e-mail address of an account of yours' BUILD_ACCOUNT
  # A longer name has no deterministic URL: the host's first label has 63 characters, 14 of them for the project.
  hint='lower-case letters, digits and hyphens, at most 49 of them'
  expect '^[a-z][a-z0-9-]{0,47}[a-z0-9]$' "$hint" API_FUNCTION WORKER_FUNCTION
  expect '^(functions|run)$' 'write functions or run, or nothing' HOSTING
  expect '^python3[0-9]+$' 'write a Python runtime such as python313' RUNTIME
  expect '^(true|false)$' 'write true or false' PUBLIC UI PITR
  expect '^([1-9][0-9]?d|[1-9][0-9]?w|none)$' 'write how long a backup is kept, such as 7d or 14w, or none' \
    DAILY_BACKUPS WEEKLY_BACKUPS
  expect '^(all|internal-only|internal-and-gclb)$' 'write all, internal-only or internal-and-gclb, or nothing' INGRESS
  expect '^https?://[^/?#]+(/[^?#]*)?$' 'write a URL such as https://example.com/orders, or nothing' PUBLIC_URL
  expect '^(open|authenticated)$' 'write open or authenticated' ACCESS
  expect '^([1-9][0-9]{0,5}|1000000)/[smh]$' 'write a rate such as 20/s or 600/m, or nothing' RATE_LIMIT
  expect '^[A-Za-z0-9_-]{1,255}$' 'write the name of a secret in Secret Manager, or none, not the keys themselves' \
    SECRET_KEYS CALLBACK_KEYS SESSION_KEYS
  expect '^projects/[^/,]+/locations/[^/,]+/keyRings/[^/,]+/cryptoKeys/[^/,]+$' \
    'write the name of a key, projects/P/locations/L/keyRings/R/cryptoKeys/K, or nothing' KMS_KEY
  expect '^projects/[^/]+/notificationChannels/[^/]+$' \
    'write the name of a notification channel, projects/P/notificationChannels/N, or nothing' ALERTS
  expect '^(DEBUG|INFO|WARNING|ERROR)$' 'write DEBUG, INFO, WARNING or ERROR' LOG_LEVEL
  expect '^[0-9]+$' 'write a whole number' QUEUE_CONCURRENT_DISPATCHES QUEUE_DOUBLINGS CONCURRENCY \
    INSTANCES_MIN API_INSTANCES_MAX WORKER_INSTANCES_MAX
  expect '^([0-9]+|-1|unlimited)$' 'write a whole number or unlimited' QUEUE_ATTEMPTS
  expect '^[0-9]+(\.[0-9]+)?$' 'write a number' QUEUE_DISPATCHES_PER_SECOND LEASE_SECONDS LAZY_TIMER_SECONDS
  expect '^[0-9]+(\.[0-9]+)?[smhd]?$' 'write a duration such as 60s' QUEUE_RETRY_DURATION QUEUE_BACKOFF_MIN \
    QUEUE_BACKOFF_MAX API_TIMEOUT WORKER_TIMEOUT
  expect '^[0-9.]+[A-Za-z]*$' 'write an amount such as 512Mi or 1' MEMORY CPU
  # Recovery creates the tasks of lazy timers two minutes ahead.
  [[ $RECOVERY_SCHEDULE == '* * * * *' || ${LAZY_TIMER_SECONDS:-0} == 0 ]] ||
    die "$file: LAZY_TIMER_SECONDS is '$LAZY_TIMER_SECONDS': write 0, because RECOVERY_SCHEDULE is not '* * * * *'"
  [[ ${INDEX_SHARDS:-1} != 1 || ${SHARDED_INDEXES:-write} == write ]] ||
    die "$file: SHARDED_INDEXES is $SHARDED_INDEXES, but INDEX_SHARDS is not more than 1"
  [[ $ACTIVITY_QUEUE != "$QUEUE" ]] || die "$file: ACTIVITY_QUEUE and QUEUE must differ"
  [[ $API_FUNCTION != "$WORKER_FUNCTION" ]] || die "$file: API_FUNCTION and WORKER_FUNCTION must differ"
  [[ " $API_ACCOUNT $WORKER_ACCOUNT $TASKS_ACCOUNT " != *" $BUILD_ACCOUNT "* ]] ||
    die "$file: BUILD_ACCOUNT must differ from API_ACCOUNT, WORKER_ACCOUNT and TASKS_ACCOUNT"
  [[ $API_ACCOUNT != "$WORKER_ACCOUNT" && $API_ACCOUNT != "$TASKS_ACCOUNT" && $WORKER_ACCOUNT != "$TASKS_ACCOUNT" ]] ||
    die "$file: API_ACCOUNT, WORKER_ACCOUNT and TASKS_ACCOUNT must differ"
  if [[ $SECRET_KEYS != none && ($SECRET_KEYS == "$CALLBACK_KEYS" || $SECRET_KEYS == "$SESSION_KEYS") ]] ||
    [[ $CALLBACK_KEYS != none && $CALLBACK_KEYS == "$SESSION_KEYS" ]]; then
    die "$file: SECRET_KEYS, CALLBACK_KEYS and SESSION_KEYS must be different secrets: each is for other accounts"
  fi
}

# expect PATTERN HINT NAME...: checks the settings that are not empty.
expect() {
  local pattern=$1 hint=$2 name
  shift 2
  for name in "$@"; do
    [[ -z ${!name} || ${!name} =~ $pattern ]] || die "$file: $name is '${!name}': $hint"
  done
}

# A Service without authenticators starts in the cloud only with GORCHESTRATE_ACCESS=open. The operator writes down which
# of the two it is, so that nobody opens an api by accident.
check_access() {
  [[ -z $ACCESS ]] || return 0
  local everyone="everyone who has roles/run.invoker on the api"
  if $PUBLIC; then everyone="everyone on the internet"; fi
  die "$1: ACCESS is missing. Does the Service in your main.py have authenticators? If so, write ACCESS=authenticated. If not," \
    "$everyone may start instances and send every event: write ACCESS=open if that is what you want"
}

# Derives further values from the settings. In a dry run, the project's number is unknown.
derive() {
  API_EMAIL="$API_ACCOUNT@$PROJECT.iam.gserviceaccount.com"
  WORKER_EMAIL="$WORKER_ACCOUNT@$PROJECT.iam.gserviceaccount.com"
  TASKS_EMAIL="$TASKS_ACCOUNT@$PROJECT.iam.gserviceaccount.com"
  BUILD_EMAIL=$BUILD_ACCOUNT
  if [[ -n $BUILD_ACCOUNT && $BUILD_ACCOUNT != *@* ]]; then BUILD_EMAIL="$BUILD_ACCOUNT@$PROJECT.iam.gserviceaccount.com"; fi
  KIND=Function
  if [[ $HOSTING == run ]]; then KIND=Service; fi
  REPOSITORY=$WORKER_FUNCTION-images # in Artifact Registry; a teardown deletes it
  RECOVERY_JOB="$WORKER_FUNCTION-recover"
  FAILED_METRIC="$WORKER_FUNCTION-failed-instances"
  local number
  ALL_QUEUES=("$QUEUE")
  for ((number = 2; number <= ${QUEUES:-1}; number++)); do ALL_QUEUES+=("$QUEUE-$number"); done
  [[ " ${ALL_QUEUES[*]} " != *" $ACTIVITY_QUEUE "* ]] ||
    die "ACTIVITY_QUEUE is '$ACTIVITY_QUEUE', which is one of the $QUEUES queues that are named after QUEUE: choose another name"
  if [[ -n $ACTIVITY_QUEUE ]]; then ALL_QUEUES+=("$ACTIVITY_QUEUE"); fi
  if [[ -z $LAZY_TIMER_SECONDS ]]; then
    LAZY_TIMER_SECONDS=0
    if [[ $RECOVERY_SCHEDULE == '* * * * *' ]]; then LAZY_TIMER_SECONDS=600; fi
  fi
  # The functions may use only this database of the project.
  # One deployment is the worker, whose name is unique in its region.
  DEPLOYMENT="$REGION/$WORKER_FUNCTION"
  RUN_PLACE=(--project="$PROJECT" --region="$REGION")
  DATABASE_PLACE=(--project="$PROJECT" --database="$DATABASE")
  DATABASE_CONDITION="expression=resource.name==\"projects/$PROJECT/databases/$DATABASE\",title=gorchestrate-$QUEUE"
}
