"""Lists of recordings, their labels and annotations: read, checked, measured and imported."""
