"""Metrics, transferability and the report: queries over the two tables, never a model run."""

from recdistill.evaluate.summary import Summary

__all__ = ["Summary"]
