"""Networks only, no I/O: embeddings, backbones, heads."""
