"""What a run needs around its module."""
