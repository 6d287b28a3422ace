"""Metrics: detectron2's evaluators, and what it lacks."""
