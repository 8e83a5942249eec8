# The settings of deploy/settings.env.example, with the same meaning and the same defaults. That file explains them.

variable "project" {
  description = "The Google Cloud project, with a billing account."
  type        = string
}

variable "hosting" {
  description = "functions: the api and the worker are Cloud Run functions. run: they are services of Cloud Run, from one image."
  type        = string
  default     = "functions"

  validation {
    condition     = contains(["functions", "run"], var.hosting)
    error_message = "Write functions or run."
  }
}

variable "source_archive" {
  description = "With hosting = functions: the zip file with the source: deploy/deploy.sh --archive FILE makes it."
  type        = string
  default     = null

  validation {
    condition     = (var.hosting == "run") == (var.source_archive == null)
    error_message = "Functions need source_archive, and services need image instead."
  }
}

variable "image" {
  description = "With hosting = run: the image of both services, with a tag or digest of its own for each deployment."
  type        = string
  default     = null

  validation {
    condition     = (var.hosting == "run") == (var.image != null)
    error_message = "Services need image, and functions need source_archive instead."
  }
}

variable "access" {
  description = "Who may do what on the api. authenticated: the Service has authenticators. open: it has none."
  type        = string

  validation {
    condition     = contains(["open", "authenticated"], var.access)
    error_message = "Write open or authenticated."
  }
}

variable "region" {
  description = "The region of the functions, the queues and the scheduler."
  type        = string
  default     = "us-central1"
}

variable "firestore_location" {
  description = "The location of the database. It can never be changed."
  type        = string
  default     = "us-central1"
}

variable "database" {
  description = "The Firestore database."
  type        = string
  default     = "(default)"
}

variable "pitr" {
  description = "Whether each version of a document is kept for 7 days."
  type        = bool
  default     = false
}

variable "daily_backups" {
  description = "How long daily backups are kept, in seconds: 604800s. Null: there are none."
  type        = string
  default     = null
}

variable "weekly_backups" {
  description = "How long the backups of each Sunday are kept, in seconds: 8467200s. Null: there are none."
  type        = string
  default     = null
}

variable "queue" {
  description = "The task queue that wakes instances."
  type        = string
  default     = "gorchestrate"
}

variable "queues" {
  description = "How many queues there are: queue, queue-2 and so on."
  type        = number
  default     = 1

  validation {
    condition     = var.queues >= 1 && var.queues <= 99 && floor(var.queues) == var.queues
    error_message = "Write a number of queues from 1 to 99."
  }
}

variable "activity_queue" {
  description = "A queue of its own for activities. Empty: none."
  type        = string
  default     = ""
}

variable "queue_limits" {
  description = "The limits and retries of each queue."
  type = object({
    dispatches_per_second = optional(number, 500)
    concurrent_dispatches = optional(number, 400)
    attempts              = optional(number, 100)
    retry_duration        = optional(string, "86400s")
    backoff_min           = optional(string, "0.500s")
    backoff_max           = optional(string, "60s")
    doublings             = optional(number, 7)
  })
  default = {}
}

variable "api_account" {
  description = "The service account of the api, without the @ and what follows."
  type        = string
  default     = "gorchestrate-api"
}

variable "worker_account" {
  description = "The service account of the worker."
  type        = string
  default     = "gorchestrate-worker"
}

variable "tasks_account" {
  description = "The service account with which tasks and the scheduler call the worker."
  type        = string
  default     = "gorchestrate-tasks"
}

variable "build_account" {
  description = "The service account that builds the functions."
  type        = string
  default     = "gorchestrate-build"
}

variable "runtime" {
  description = "The Python version of the functions."
  type        = string
  default     = "python313"
}

variable "api_function" {
  description = "The name of the api."
  type        = string
  default     = "gorchestrate-api"
}

variable "worker_function" {
  description = "The name of the worker."
  type        = string
  default     = "gorchestrate-worker"
}

variable "public" {
  description = "Whether everyone can reach the api. Otherwise callers need roles/run.invoker on it."
  type        = bool
  default     = false
}

variable "ingress" {
  description = "From where the api can be reached: ALLOW_ALL, ALLOW_INTERNAL_AND_GCLB or ALLOW_INTERNAL_ONLY."
  type        = string
  default     = "ALLOW_ALL"

  validation {
    condition     = contains(["ALLOW_ALL", "ALLOW_INTERNAL_AND_GCLB", "ALLOW_INTERNAL_ONLY"], var.ingress)
    error_message = "Write ALLOW_ALL, ALLOW_INTERNAL_AND_GCLB or ALLOW_INTERNAL_ONLY."
  }
}

variable "public_url" {
  description = "The URL at which clients reach the api, if a proxy changes it."
  type        = string
  default     = ""
}

variable "ui" {
  description = "Whether the api serves pages under /ui/."
  type        = bool
  default     = false
}

variable "rate_limit" {
  description = "How many requests each caller may send to the api: 20/s, 600/m or 10000/h. Empty: as many as they want."
  type        = string
  default     = ""
}

variable "worker_auth" {
  description = "How the worker checks tokens. iam: it leaves the signature to Cloud Run; see The canary in deploy/README.md."
  type        = string
  default     = "oidc"

  validation {
    condition     = contains(["oidc", "iam"], var.worker_auth)
    error_message = "Write oidc or iam."
  }
}

variable "memory" {
  description = "The memory of an instance of a function."
  type        = string
  default     = "512Mi"
}

variable "cpu" {
  description = "The CPUs of an instance of a function."
  type        = string
  default     = "1"
}

variable "concurrency" {
  description = "The number of requests that an instance of a function serves at a time."
  type        = number
  default     = 40
}

variable "instances_min" {
  description = "How many instances of each function are always there."
  type        = number
  default     = 0
}

variable "api_instances_max" {
  description = "The most instances of the api."
  type        = number
  default     = 10
}

variable "worker_instances_max" {
  description = "The most instances of the worker."
  type        = number
  default     = 10
}

variable "api_timeout" {
  description = "The timeout of requests to the api, in seconds."
  type        = number
  default     = 60
}

variable "worker_timeout" {
  description = "The timeout of requests to the worker, in seconds."
  type        = number
  default     = 540
}

variable "lease_seconds" {
  description = "How long a killed worker blocks its instance."
  type        = number
  default     = 60
}

variable "recovery_schedule" {
  description = "How often recovery looks for stalled instances (cron, UTC)."
  type        = string
  default     = "* * * * *"
}

variable "lazy_timer_seconds" {
  description = "A timer that is due later costs no task at first. 0: each timer has a task. Null: 600, or 0 with another schedule."
  type        = number
  default     = null
}

variable "secret_keys" {
  description = "The secret with the keys that encrypt secret fields. none: no keys."
  type        = string
  default     = "gorchestrate-secret-keys"
}

variable "callback_keys" {
  description = "The secret with the keys that sign callback URLs. none: no keys."
  type        = string
  default     = "gorchestrate-callback-keys"
}

variable "session_keys" {
  description = "The secret with the keys of the cookies of the pages' login. none: no keys."
  type        = string
  default     = "gorchestrate-session-keys"
}

variable "kms_key" {
  description = "The key in Cloud KMS that encrypts secret fields: projects/P/locations/L/keyRings/R/cryptoKeys/K."
  type        = string
  default     = ""
}

variable "log_level" {
  description = "DEBUG, INFO, WARNING or ERROR."
  type        = string
  default     = "INFO"
}

variable "alerts" {
  description = "The notification channel of the alerts: projects/P/notificationChannels/N. Empty: no alerts and no dashboard."
  type        = string
  default     = ""
}
