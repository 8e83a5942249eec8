"""Storage of instances: the ``Store`` port on SQLite and on Firestore."""
