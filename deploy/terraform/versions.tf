terraform {
  required_version = ">= 1.11" # keys that are written, but not stored in the state

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.50, < 8"
    }
    random = {
      source  = "hashicorp/random"
      version = ">= 3.7"
    }
  }
}
