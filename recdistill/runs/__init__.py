"""The folder of a run, its jobs, and the batch ingest of its log."""
