"""Make the label files that published configs name from the originals of public datasets.

Each module prepares one dataset under `$DETECTRON2_DATASETS`: a person downloads the originals,
whose licences are their authors', and `prepare` writes what is missing beside them. Class lists
come from the datasets' own files.
"""
