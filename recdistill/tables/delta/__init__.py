"""Delta tables: commits, files, checksums."""
