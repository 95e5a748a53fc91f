"""Samples, ids and histories as memory-mapped columns; the growing store of a stream."""
