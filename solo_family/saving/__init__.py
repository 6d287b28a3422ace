"""Files of results that other programs read: one module per format.

`writer.py` saves the results of many pictures in several formats; `picture.py` is what a format
gets of a picture; `saver.py` is what the formats share.
"""
