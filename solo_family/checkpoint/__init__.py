"""Weights of other sources under our names."""
