"""Predict large images by overlapping tiles, and join the results to those of the whole image."""
