"""The programs as a user starts them: real processes, real signals, real files."""
