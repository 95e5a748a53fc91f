"""From rows of the store to tensors: batches, candidates, past hidden states, slices."""
