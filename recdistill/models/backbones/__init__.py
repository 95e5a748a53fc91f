"""From a batch to [B, output_width]: the kinds that an experiment names."""
