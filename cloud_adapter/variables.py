"""Names of environment variables that are needed where no settings are known, such as in errors."""

PREFIX = "GORCHESTRATE_"
"""The names of all settings begin with it."""
SECRET_KEYS_VARIABLE = f"{PREFIX}SECRET_KEYS"
KMS_KEY_VARIABLE = f"{PREFIX}KMS_KEY"
