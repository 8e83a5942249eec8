output "api_url" {
  description = "The URL of the api."
  value       = local.api_url
}

output "worker_url" {
  description = "The URL of the worker, which only the tasks account may call."
  value       = local.worker_url
}
