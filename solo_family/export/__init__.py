"""Export models to files that run without detectron2, and run those files."""
