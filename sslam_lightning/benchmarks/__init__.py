"""Measurements that users can repeat: ratios within one run, never a bare time."""
