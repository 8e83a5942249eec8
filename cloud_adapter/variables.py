"""The environment variables of the keys that encrypt secrets. Errors name them, also where no settings are known."""

SECRET_KEYS_VARIABLE = "GORCHESTRATE_SECRET_KEYS"
KMS_KEY_VARIABLE = "GORCHESTRATE_KMS_KEY"
