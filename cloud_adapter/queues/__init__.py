"""Task queues: the ``TaskQueue`` port in this process, on PostgreSQL and on Cloud Tasks."""
