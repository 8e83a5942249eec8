"""The ``Store`` port on PostgreSQL, for any number of machines. Its queue can share the transactions of its commits."""
