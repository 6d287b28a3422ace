"""Tell what a file is that people give for a picture, and what to do with it."""

import codecs
from contextlib import suppress

_HEAD = 2048
# How files begin, and what they are.
_KINDS = (
    (b"%PDF-", "it is a PDF; make pictures of its pages, for instance with pdftoppm -png"),
    (b"<svg", "it is an SVG, a drawing; export it as PNG"),
    (b"<!doctype html", "it is a page of HTML; give the address or file of the picture in it"),
    (b"<html", "it is a page of HTML; give the address or file of the picture in it"),
    (b"version https://git-lfs", "it is a Git LFS pointer; fetch the file with git lfs pull"),
)
_NUMBERS = (b"P1", b"P2", b"P3")  # pictures of decimal numbers, as PGM
_AVIF = (b"avif", b"avis")
_HEIC = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")


def what_it_is(path: str) -> str:
    """Return what a file is that can't be read as a picture, with a remedy; "" if unknown."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return ""
    if not head:
        return "the file is empty; export or copy it again"
    if head[4:8] == b"ftyp":
        if head[8:12] in _HEIC:
            return "it is a HEIC picture; convert it to JPEG or PNG"
        if head[8:12] in _AVIF:
            return "it is a broken AVIF picture; export or copy it again"
        return "it is a video; demo reads it with --input FILE.mp4 or --video-input FILE"
    lowered = head.removeprefix(codecs.BOM_UTF8).lower()
    for beginning, kind in _KINDS:
        if lowered.lstrip().startswith(beginning.lower()) or beginning == b"<svg" in lowered:
            return kind
    if head[:2] in _NUMBERS and head[2:3].isspace():
        return ""  # its reader knows what is wrong with it
    with suppress(UnicodeDecodeError):
        # The last letter may be cut.
        text = head[:-3].decode() if len(head) == _HEAD else head.decode()
        if all(letter.isprintable() or letter.isspace() for letter in text):
            return "it is text; demo takes a list of files as --input @FILE"
    return ""
