# With hosting = "run": the two services, from one image. They are to the rest what the functions are.

locals {
  ingresses = {
    ALLOW_ALL               = "INGRESS_TRAFFIC_ALL"
    ALLOW_INTERNAL_AND_GCLB = "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"
    ALLOW_INTERNAL_ONLY     = "INGRESS_TRAFFIC_INTERNAL_ONLY"
  }
}

resource "google_cloud_run_v2_service" "worker" {
  count = var.hosting == "run" ? 1 : 0

  project             = var.project
  location            = var.region
  name                = var.worker_function
  ingress             = "INGRESS_TRAFFIC_INTERNAL_ONLY"
  deletion_protection = false

  template {
    service_account                  = google_service_account.worker.email
    timeout                          = "${var.worker_timeout}s"
    max_instance_request_concurrency = var.concurrency

    scaling {
      min_instance_count = var.instances_min
      max_instance_count = var.worker_instances_max
    }

    containers {
      image = var.image

      resources {
        limits            = { memory = var.memory, cpu = var.cpu }
        cpu_idle          = true
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = merge(local.environment, { FUNCTION_TARGET = "worker" })
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = { for name, key in local.keys : name => key if contains(key.functions, "worker") }
        content {
          name = env.key
          value_source {
            secret_key_ref {
              secret  = env.value.secret
              version = "latest"
            }
          }
        }
      }
    }
  }

  traffic {
    type    = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
    percent = 100
  }

  depends_on = [
    google_project_iam_member.database, google_secret_manager_secret_version.keys,
    google_secret_manager_secret_iam_member.keys, google_firestore_index.indexes, google_firestore_field.fields, google_firestore_document.mark,
  ]
}

# After the worker, so that nothing is created which no worker runs.
resource "google_cloud_run_v2_service" "api" {
  count = var.hosting == "run" ? 1 : 0

  project             = var.project
  location            = var.region
  name                = var.api_function
  ingress             = local.ingresses[var.ingress]
  deletion_protection = false

  template {
    service_account                  = google_service_account.api.email
    timeout                          = "${var.api_timeout}s"
    max_instance_request_concurrency = var.concurrency

    scaling {
      min_instance_count = var.instances_min
      max_instance_count = var.api_instances_max
    }

    containers {
      image = var.image

      resources {
        limits            = { memory = var.memory, cpu = var.cpu }
        cpu_idle          = true
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = merge(local.environment, local.api_environment, { FUNCTION_TARGET = "api" })
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = local.keys
        content {
          name = env.key
          value_source {
            secret_key_ref {
              secret  = env.value.secret
              version = "latest"
            }
          }
        }
      }
    }
  }

  traffic {
    type    = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
    percent = 100
  }

  depends_on = [google_cloud_run_v2_service.worker, google_cloud_run_v2_service_iam_member.tasks]
}
