"""The deployment scripts, run as a whole with the real gcloud against a Google Cloud that is kept in memory."""
