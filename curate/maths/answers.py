"""Read a final answer out of free text."""
