"""Backbones beyond detectron2's own."""
