"""Metrics, transferability and scaling laws: queries over the two tables, never a model run."""
