"""Rows to tensors: readers of logs, the store on disk, batches."""
