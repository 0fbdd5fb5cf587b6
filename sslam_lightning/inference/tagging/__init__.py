"""Tags of recordings: computed, told, and kept in files."""
