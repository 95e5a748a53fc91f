"""Several processes that train one model: ranks, shards of the dense part, the launch under torchrun."""
