"""Attention: over a target, by blocks, fused in Triton; float8 products."""
