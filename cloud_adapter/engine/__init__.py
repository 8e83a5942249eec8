"""Everything that changes instances: decisions, the loop that commits them, and the work that follows."""
