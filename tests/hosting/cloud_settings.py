"""Settings of the cloud backend, as environment variables."""

CLOUD = {
    "GORCHESTRATE_BACKEND": "cloud",
    "GORCHESTRATE_ACCESS": "open",
    "GORCHESTRATE_PROJECT": "p",
    "GORCHESTRATE_LOCATION": "europe-west1",
    "GORCHESTRATE_WORKER_URL": "https://worker.run.app",
    "GORCHESTRATE_TASKS_ACCOUNT": "tasks@p.iam.gserviceaccount.com",
}
