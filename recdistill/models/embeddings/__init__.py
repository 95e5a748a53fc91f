"""Embedding tables that grow with the ids, in one process or spread over ranks."""
