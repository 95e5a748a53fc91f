"""Work in parts, by several processes."""
