"""Where a run lies: a local folder, or a prefix of an object store."""
