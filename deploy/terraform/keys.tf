# The secrets in Secret Manager that contain the keys of the functions. Each gets one random key. The key is written once,
# and is in no state and no plan. Add later keys with gcloud secrets versions add.

locals {
  key_settings = {
    GORCHESTRATE_SECRET_KEYS   = { secret = var.secret_keys, functions = ["api", "worker"] }
    GORCHESTRATE_CALLBACK_KEYS = { secret = var.callback_keys, functions = ["api", "worker"] }
    GORCHESTRATE_SESSION_KEYS  = { secret = var.session_keys, functions = ["api"] }
  }
  keys = { for name, key in local.key_settings : name => key if key.secret != "none" }
  readers = merge([
    for name, key in local.keys : { for function in key.functions : "${name}/${function}" => { key = name, function = function } }
  ]...)
}

resource "google_secret_manager_secret" "keys" {
  for_each = local.keys

  project   = var.project
  secret_id = each.value.secret
  labels    = { gorchestrate = var.worker_function }

  replication {
    auto {}
  }

  depends_on = [google_project_service.apis]
}

# 32 letters and digits; in base64 they have the form of a key.
ephemeral "random_password" "keys" {
  for_each = local.keys

  length  = 32
  special = false
}

resource "google_secret_manager_secret_version" "keys" {
  for_each = local.keys

  secret                 = google_secret_manager_secret.keys[each.key].id
  secret_data_wo         = base64encode(ephemeral.random_password.keys[each.key].result)
  secret_data_wo_version = 1 # never changed: with another key, nobody could read what is stored
}

resource "google_secret_manager_secret_iam_member" "keys" {
  for_each = local.readers

  project   = var.project
  secret_id = google_secret_manager_secret.keys[each.value.key].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = local.functions[each.value.function].member
}
