"""Make a folder of a trained model that others can load, with a model card."""
