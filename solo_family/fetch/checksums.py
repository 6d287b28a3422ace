"""Compare a file with the hash that is published for it."""

import hashlib
from pathlib import Path


def actual_hash(path: Path, kind: str) -> str:
    """Return the hash of a file, in hexadecimal digits.

    Args:
        path: of the file.
        kind: "sha256", "md5", or "git" for git's hash of a blob, which the HuggingFace Hub gives of
            small files.
    """
    with open(path, "rb") as file:
        if kind != "git":
            return hashlib.file_digest(file, kind).hexdigest()
        hashed = hashlib.sha1(b"blob %d\0" % path.stat().st_size)
        while chunk := file.read(2**20):
            hashed.update(chunk)
    return hashed.hexdigest()


def of_etag(etag: str) -> str:
    """Return the checksum that an ETag of the HuggingFace Hub is; "" if it is none.

    The Hub's ETag is the SHA-256 of a large file, and git's hash of a small one.

    Returns:
        "sha256:..." or "git:...".
    """
    kinds = {64: "sha256", 40: "git"}
    is_hash = len(etag) in kinds and all(digit in "0123456789abcdef" for digit in etag)
    return f"{kinds[len(etag)]}:{etag}" if is_hash else ""
