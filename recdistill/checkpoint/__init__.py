"""Checkpoints by one atomic rename, whole or in shares of several ranks."""
