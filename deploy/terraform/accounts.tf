# The identities, and the few roles that each needs.

locals {
  functions = { api = google_service_account.api, worker = google_service_account.worker }
  function_queues = {
    for pair in setproduct(keys(local.functions), local.queues) : join("/", pair) => { function = pair[0], queue = pair[1] }
  }
}

resource "google_service_account" "api" {
  project      = var.project
  account_id   = var.api_account
  display_name = "gorchestrate: identity of the api"
}

resource "google_service_account" "worker" {
  project      = var.project
  account_id   = var.worker_account
  display_name = "gorchestrate: identity of the worker"
}

resource "google_service_account" "tasks" {
  project      = var.project
  account_id   = var.tasks_account
  display_name = "gorchestrate: may call the worker"
}

# With hosting = "run", you build the image.
resource "google_service_account" "build" {
  count = var.hosting == "functions" ? 1 : 0

  project      = var.project
  account_id   = var.build_account
  display_name = "gorchestrate: builds the functions"
}

resource "google_project_iam_member" "database" {
  for_each = local.functions

  project = var.project
  role    = "roles/datastore.user"
  member  = each.value.member

  condition {
    title      = "gorchestrate-${var.queue}"
    expression = "resource.name==\"projects/${var.project}/databases/${var.database}\""
  }
}

resource "google_cloud_tasks_queue_iam_member" "enqueuer" {
  for_each = local.function_queues

  project  = var.project
  location = var.region
  name     = google_cloud_tasks_queue.queues[each.value.queue].name
  role     = "roles/cloudtasks.enqueuer"
  member   = local.functions[each.value.function].member
}

resource "google_cloud_tasks_queue_iam_member" "deleter" {
  for_each = local.function_queues

  project  = var.project
  location = var.region
  name     = google_cloud_tasks_queue.queues[each.value.queue].name
  role     = "roles/cloudtasks.taskDeleter"
  member   = local.functions[each.value.function].member
}

resource "google_service_account_iam_member" "tasks" {
  for_each = local.functions

  service_account_id = google_service_account.tasks.name
  role               = "roles/iam.serviceAccountUser"
  member             = each.value.member
}

resource "google_project_iam_member" "build" {
  for_each = toset(var.hosting == "functions" ? ["roles/logging.logWriter", "roles/artifactregistry.writer", "roles/storage.objectViewer"] : [])

  project = var.project
  role    = each.key
  member  = google_service_account.build[0].member
}

resource "google_cloud_run_v2_service_iam_member" "tasks" {
  project  = var.project
  location = var.region
  name     = one(concat(google_cloudfunctions2_function.worker[*].name, google_cloud_run_v2_service.worker[*].name))
  role     = "roles/run.invoker"
  member   = google_service_account.tasks.member
}

resource "google_cloud_run_v2_service_iam_member" "everyone" {
  count = var.public ? 1 : 0

  project  = var.project
  location = var.region
  name     = one(concat(google_cloudfunctions2_function.api[*].name, google_cloud_run_v2_service.api[*].name))
  role     = "roles/run.invoker"
  member   = "allUsers"
}
