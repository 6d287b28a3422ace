"""Models as files that run without detectron2, and what runs them."""
