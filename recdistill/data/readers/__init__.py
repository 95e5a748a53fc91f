"""From tables as their publishers or users have them to the log's own columns."""
