"""Data sets in the forms that other projects chose: each module reads one, as `Recordings` with all their labels."""
