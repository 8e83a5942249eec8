"""What the store and the queue on PostgreSQL share: the connections to one database, its tables, and their tasks."""
