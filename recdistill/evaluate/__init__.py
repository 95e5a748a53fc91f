"""Metrics, transferability and the report: queries over the two tables, never a model run."""

__all__: list[str] = []
