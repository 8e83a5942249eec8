"""What is told of a run: the log, spans and metrics."""
