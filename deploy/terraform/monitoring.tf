# The alerts and the dashboard of deploy/monitoring, if there is a notification channel.

locals {
  monitoring = {
    api    = var.api_function
    worker = var.worker_function
    job    = google_cloud_scheduler_job.recovery.name
    region = var.region
    queues = join("|", local.queues)
    metric = "${var.worker_function}-failed-instances"
  }
  alerts = var.alerts == "" ? [] : jsondecode(templatefile("${path.module}/../monitoring/alerts.json", local.monitoring))
}

resource "google_logging_metric" "failed_instances" {
  count = var.alerts == "" ? 0 : 1

  project     = var.project
  name        = local.monitoring.metric
  description = "gorchestrate: instances that have failed"
  filter      = trimspace(templatefile("${path.module}/../monitoring/failed_instances.filter", local.monitoring))

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
  }

  depends_on = [google_project_service.apis]
}

resource "google_monitoring_alert_policy" "alerts" {
  for_each = { for alert in local.alerts : alert.name => alert }

  project               = var.project
  display_name          = each.value.displayName
  combiner              = "OR"
  notification_channels = [var.alerts]
  user_labels           = { gorchestrate = var.worker_function, alert = each.key }

  documentation {
    content   = each.value.documentation
    mime_type = "text/markdown"
  }

  conditions {
    display_name = each.value.displayName
    condition_threshold {
      filter          = each.value.filter
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.threshold
      duration        = each.value.duration
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = each.value.aligner
        cross_series_reducer = each.value.reducer
      }
    }
  }

  depends_on = [google_logging_metric.failed_instances]
}

resource "google_monitoring_dashboard" "dashboard" {
  count = var.alerts == "" ? 0 : 1

  project        = var.project
  dashboard_json = templatefile("${path.module}/../monitoring/dashboard.json", local.monitoring)

  depends_on = [google_logging_metric.failed_instances]
}
