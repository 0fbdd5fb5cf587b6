"""Recordings packed into a few large files."""
