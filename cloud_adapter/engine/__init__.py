"""What happens to an instance: decisions, the loop that commits them, and what follows from that."""
