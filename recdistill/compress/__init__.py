"""Students made from other networks: pruned, grown, started from an older one. Physically smaller or larger modules."""
