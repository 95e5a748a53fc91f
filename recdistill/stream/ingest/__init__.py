"""From messages of a source to commits of events, behaviors and outcomes."""
