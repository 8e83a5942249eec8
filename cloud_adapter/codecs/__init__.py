"""Codecs: how secrets are encrypted before they are stored, with a key of the settings or of Cloud KMS."""
