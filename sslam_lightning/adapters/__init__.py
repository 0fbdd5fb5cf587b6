"""Interfaces that benchmarks of other projects ask for."""
