"""Sound files: read, streamed and resampled."""
