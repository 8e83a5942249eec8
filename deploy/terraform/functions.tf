# With hosting = "functions": the two functions. The worker can be reached only by Cloud Tasks and Cloud Scheduler of this project.

locals {
  lazy_timer_seconds = var.recovery_schedule == "* * * * *" ? 600 : 0
  environment = merge(
    {
      GORCHESTRATE_BACKEND            = "cloud"
      GORCHESTRATE_LEASE_SECONDS      = tostring(var.lease_seconds)
      GORCHESTRATE_LAZY_TIMER_SECONDS = tostring(coalesce(var.lazy_timer_seconds, local.lazy_timer_seconds))
      GORCHESTRATE_PROJECT            = var.project
      GORCHESTRATE_DATABASE           = var.database
      GORCHESTRATE_LOCATION           = var.region
      GORCHESTRATE_QUEUE              = var.queue
      GORCHESTRATE_QUEUES             = tostring(var.queues)
      GORCHESTRATE_ACTIVITY_QUEUE     = var.activity_queue
      GORCHESTRATE_INDEX_SHARDS       = "1" # only deploy.sh moves a database to more
      GORCHESTRATE_SHARDED_INDEXES    = "write"
      GORCHESTRATE_WORKER_URL         = local.worker_url
      GORCHESTRATE_AUDIENCE           = local.worker_url
      GORCHESTRATE_TASKS_ACCOUNT      = google_service_account.tasks.email
      GORCHESTRATE_WORKER_AUTH        = var.worker_auth
      GORCHESTRATE_PUBLIC             = tostring(var.public)
      GORCHESTRATE_PUBLIC_URL         = var.public_url
      GORCHESTRATE_RATE_LIMIT         = var.rate_limit
      GORCHESTRATE_UI                 = tostring(var.ui)
      GORCHESTRATE_LOG_LEVEL          = var.log_level
    },
    var.access == "open" ? { GORCHESTRATE_ACCESS = "open" } : {},
    var.kms_key == "" ? {} : { GORCHESTRATE_KMS_KEY = var.kms_key },
    { for name, key in local.key_settings : name => "none" if key.secret == "none" && contains(key.functions, "worker") },
  )
  api_environment = var.session_keys == "none" ? { GORCHESTRATE_SESSION_KEYS = "none" } : {}
}

resource "google_storage_bucket" "source" {
  count = var.hosting == "functions" ? 1 : 0

  project                     = var.project
  name                        = "${var.project}-${var.worker_function}-source"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  depends_on = [google_project_service.apis]
}

resource "google_storage_bucket_object" "source" {
  count = var.hosting == "functions" ? 1 : 0

  bucket = google_storage_bucket.source[0].name
  name   = "${filemd5(var.source_archive)}.zip"
  source = var.source_archive
}

resource "google_cloudfunctions2_function" "worker" {
  count = var.hosting == "functions" ? 1 : 0

  project  = var.project
  location = var.region
  name     = var.worker_function

  build_config {
    runtime         = var.runtime
    entry_point     = "worker"
    service_account = google_service_account.build[0].id
    source {
      storage_source {
        bucket = google_storage_bucket.source[0].name
        object = google_storage_bucket_object.source[0].name
      }
    }
  }

  service_config {
    service_account_email            = google_service_account.worker.email
    environment_variables            = local.environment
    ingress_settings                 = "ALLOW_INTERNAL_ONLY"
    all_traffic_on_latest_revision   = true
    available_memory                 = var.memory
    available_cpu                    = var.cpu
    max_instance_request_concurrency = var.concurrency
    min_instance_count               = var.instances_min
    max_instance_count               = var.worker_instances_max
    timeout_seconds                  = var.worker_timeout

    dynamic "secret_environment_variables" {
      for_each = { for name, key in local.keys : name => key if contains(key.functions, "worker") }
      content {
        key        = secret_environment_variables.key
        project_id = var.project
        secret     = secret_environment_variables.value.secret
        version    = "latest"
      }
    }
  }

  depends_on = [
    google_project_iam_member.build, google_project_iam_member.database, google_secret_manager_secret_version.keys,
    google_secret_manager_secret_iam_member.keys, google_firestore_index.indexes, google_firestore_field.fields, google_firestore_document.mark,
  ]
}

# After the worker, so that nothing is created which no worker runs.
resource "google_cloudfunctions2_function" "api" {
  count = var.hosting == "functions" ? 1 : 0

  project  = var.project
  location = var.region
  name     = var.api_function

  build_config {
    runtime         = var.runtime
    entry_point     = "api"
    service_account = google_service_account.build[0].id
    source {
      storage_source {
        bucket = google_storage_bucket.source[0].name
        object = google_storage_bucket_object.source[0].name
      }
    }
  }

  service_config {
    service_account_email            = google_service_account.api.email
    environment_variables            = merge(local.environment, local.api_environment)
    ingress_settings                 = var.ingress
    all_traffic_on_latest_revision   = true
    available_memory                 = var.memory
    available_cpu                    = var.cpu
    max_instance_request_concurrency = var.concurrency
    min_instance_count               = var.instances_min
    max_instance_count               = var.api_instances_max
    timeout_seconds                  = var.api_timeout

    dynamic "secret_environment_variables" {
      for_each = local.keys
      content {
        key        = secret_environment_variables.key
        project_id = var.project
        secret     = secret_environment_variables.value.secret
        version    = "latest"
      }
    }
  }

  depends_on = [google_cloudfunctions2_function.worker, google_cloud_run_v2_service_iam_member.tasks]
}
