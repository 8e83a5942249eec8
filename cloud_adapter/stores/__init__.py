"""Storage of instances: the ``Store`` port on SQLite, on PostgreSQL and on Firestore."""
