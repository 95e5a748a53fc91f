"""Which checkpoints are served, and how a bad teacher version is undone."""
