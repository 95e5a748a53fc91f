"""The one typed experiment file: every key, its unit and its default; a wrong key or value is refused by name."""
