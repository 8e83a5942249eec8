"""Where instances are kept: the ``Store`` port over SQLite and over Firestore."""
