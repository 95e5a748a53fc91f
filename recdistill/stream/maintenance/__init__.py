"""Compaction, and how long logs and tables are kept."""
