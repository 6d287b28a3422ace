"""Readers of dataset formats, each of which gives detectron2 its dicts and metadata."""
