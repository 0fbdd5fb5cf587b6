"""Data sets, samplers, workers and batches."""
