"""Metrics that detectron2 does not have."""
