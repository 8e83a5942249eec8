# The resources of deploy.sh as a Terraform module: the APIs, the database with its indexes, and the queues.

data "google_project" "project" {
  project_id = var.project
}

locals {
  number     = data.google_project.project.number
  worker_url = "https://${var.worker_function}-${local.number}.${var.region}.run.app"
  api_url    = "https://${var.api_function}-${local.number}.${var.region}.run.app"
  queues = concat(
    [var.queue],
    [for number in range(2, var.queues + 1) : "${var.queue}-${number}"],
    var.activity_queue == "" ? [] : [var.activity_queue],
  )
  indexes = jsondecode(file("${path.module}/../firestore.indexes.json"))
}

resource "google_project_service" "apis" {
  for_each = toset(concat([
    "artifactregistry", "cloudbuild", "cloudfunctions", "cloudscheduler", "cloudtasks", "firestore", "iam", "run",
    "secretmanager", "storage",
  ], var.alerts == "" ? [] : ["logging", "monitoring"]))

  project            = var.project
  service            = "${each.key}.googleapis.com"
  disable_on_destroy = false
}

resource "google_firestore_database" "database" {
  project                           = var.project
  name                              = var.database
  location_id                       = var.firestore_location
  type                              = "FIRESTORE_NATIVE"
  delete_protection_state           = "DELETE_PROTECTION_ENABLED"
  point_in_time_recovery_enablement = "POINT_IN_TIME_RECOVERY_${var.pitr ? "ENABLED" : "DISABLED"}"

  depends_on = [google_project_service.apis]
}

# The mark that deploy.sh makes: a database has one deployment. If another one has it, this document exists already.
resource "google_firestore_document" "mark" {
  project     = var.project
  database    = google_firestore_database.database.name
  collection  = "gorchestrate"
  document_id = "deployment"
  fields = jsonencode({
    deployment = { stringValue = "${var.region}/${var.worker_function}" }
    queues     = { arrayValue = { values = [for queue in local.queues : { stringValue = queue }] } }
  })
}

resource "google_firestore_backup_schedule" "daily" {
  count = var.daily_backups == null ? 0 : 1

  project   = var.project
  database  = google_firestore_database.database.name
  retention = var.daily_backups
  daily_recurrence {}
}

resource "google_firestore_backup_schedule" "weekly" {
  count = var.weekly_backups == null ? 0 : 1

  project   = var.project
  database  = google_firestore_database.database.name
  retention = var.weekly_backups
  weekly_recurrence {
    day = "SUNDAY"
  }
}

resource "google_firestore_index" "indexes" {
  for_each = {
    for index in local.indexes.indexes :
    join(",", concat([index.collectionGroup], [for field in index.fields : field.fieldPath])) => index
  }

  project     = var.project
  database    = google_firestore_database.database.name
  collection  = each.value.collectionGroup
  query_scope = each.value.queryScope

  dynamic "fields" {
    for_each = each.value.fields
    content {
      field_path   = fields.value.fieldPath
      order        = lookup(fields.value, "order", null)
      array_config = lookup(fields.value, "arrayConfig", null)
    }
  }
}

resource "google_firestore_field" "fields" {
  for_each = { for field in local.indexes.fieldOverrides : "${field.collectionGroup},${field.fieldPath}" => field }

  project    = var.project
  database   = google_firestore_database.database.name
  collection = each.value.collectionGroup
  field      = each.value.fieldPath

  index_config {
    dynamic "indexes" {
      for_each = each.value.indexes
      content {
        query_scope  = indexes.value.queryScope
        order        = lookup(indexes.value, "order", null)
        array_config = lookup(indexes.value, "arrayConfig", null)
      }
    }
  }

  dynamic "ttl_config" {
    for_each = lookup(each.value, "ttl", false) ? [true] : []
    content {}
  }
}

resource "google_cloud_tasks_queue" "queues" {
  for_each = toset(local.queues)

  project  = var.project
  location = var.region
  name     = each.key

  rate_limits {
    max_dispatches_per_second = var.queue_limits.dispatches_per_second
    max_concurrent_dispatches = var.queue_limits.concurrent_dispatches
  }

  retry_config {
    max_attempts       = var.queue_limits.attempts
    max_retry_duration = var.queue_limits.retry_duration
    min_backoff        = var.queue_limits.backoff_min
    max_backoff        = var.queue_limits.backoff_max
    max_doublings      = var.queue_limits.doublings
  }

  depends_on = [google_project_service.apis]
}

resource "google_cloud_scheduler_job" "recovery" {
  project          = var.project
  region           = var.region
  name             = "${var.worker_function}-recover"
  schedule         = var.recovery_schedule
  time_zone        = "Etc/UTC"
  attempt_deadline = "60s"

  retry_config {
    retry_count = 0
  }

  http_target {
    http_method = "POST"
    uri         = "${local.worker_url}/recover"
    oidc_token {
      service_account_email = google_service_account.tasks.email
      audience              = local.worker_url
    }
  }

  depends_on = [google_cloud_run_v2_service_iam_member.tasks]
}
