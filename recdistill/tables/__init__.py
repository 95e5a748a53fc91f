"""Events and predictions, the tables everything else stands on. Knows no torch."""
