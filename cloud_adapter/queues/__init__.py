"""Task queues: the ``TaskQueue`` port in this process and on Cloud Tasks."""
