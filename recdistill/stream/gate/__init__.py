"""The gate: which of a teacher's versions students may learn from."""
