"""The HTTP applications, over real sockets and on real SQLite files: what a client sees, and nothing else."""
