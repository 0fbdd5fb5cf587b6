"""Data sets of the published evaluations, each read from the folder that its makers hand out."""
