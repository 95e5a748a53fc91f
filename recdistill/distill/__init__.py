"""How knowledge crosses: losses, debias, weight, gate. Pure functions on tensors; usable without the tables."""
