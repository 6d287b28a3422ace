"""Segmentation of images in a few lines of Python.

from solo_family import Predictor

predict = Predictor("output/my_run")
result = predict("photo.jpg")
result.masks, result.scores, result.names
result.plot("photo_masks.png")
"""

from .predictor import Predictor
from .result import Result

__all__ = ["Predictor", "Result"]
