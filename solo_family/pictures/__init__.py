"""What is in a picture's file: channels, values deeper than 8 bits, arrays, TIFFs of many bands.

Numpy and OpenCV alone, so that exported models read files as training does.
"""
