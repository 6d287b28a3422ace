"""Files of the HuggingFace Hub: found by its own library, downloaded and checked as all others.

Below the cache folder, `hub/OWNER/REPO/COMMIT/FILE` is a file of a commit, and
`hub/OWNER/REPO/refs/REVISION` the commit that a branch or tag was when it was last asked for.
Files that other programs have put into HuggingFace's own cache (`HF_HOME`) are taken from there.
"""

import logging
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from ..errors import DataError
from ..files import replacing
from .cache import cache_folder, offline
from .checksums import of_etag
from .download import download
from .hub_file import COMMIT, MAIN, HubFile
from .hub_request import Unreachable, ask, endpoint

logger = logging.getLogger(__name__)


class Fetched(NamedTuple):
    """A file on this machine, and the commit that it is of."""

    path: Path
    commit: str


def fetch_from_hub(file: HubFile, checksum: str = "") -> Fetched:
    """Return a file of the Hub, downloading it unless a cache has it.

    Without a revision, or with a commit, nothing is asked about a file that is in the cache. For
    another revision the Hub is asked if it has changed; if the Hub can't be reached, the cache's
    file is used, with a warning.

    Args:
        file: with a name.
        checksum: see `download`; "" for the one that the Hub gives.

    Raises:
        MissingFile: the repository has no such file.
        DataError: requests are forbidden, or the Hub can't be reached; there is no such repository
            or revision, or it is private; the file can't be written, or is damaged.
    """
    cached = _cached(file)
    is_moving = file.revision and not COMMIT.fullmatch(file.revision)
    if cached is not None and (not is_moving or offline()):
        return cached
    if offline():
        raise DataError(
            f"{file} is not in the cache ({_folder(file)}), and {offline()} forbids to ask the "
            "Hub. Unset that variable for one run, or copy the cache of a machine that has the "
            "file."
        )
    try:
        found, headers = ask(file)
    except Unreachable as error:
        if cached is None:
            raise
        logger.warning(f"{error} The file in the cache is used, of commit {cached.commit[:8]}.")
        return cached
    path = _folder(file) / found.commit_hash / file.name
    # The scheme, too: a token that goes from https to http could be read on its way.
    is_here = urlsplit(found.location)[:2] == urlsplit(endpoint())[:2]
    download(
        found.location,
        path,
        checksum or of_etag(found.etag or ""),
        {"Authorization": headers["authorization"]}
        if is_here and "authorization" in headers
        else None,
    )
    if not COMMIT.fullmatch(file.revision):
        reference = _reference(file)
        reference.parent.mkdir(parents=True, exist_ok=True)
        with replacing(reference) as temporary:
            temporary.write_text(found.commit_hash, encoding="utf-8")
    return Fetched(path, found.commit_hash)


def _folder(file: HubFile) -> Path:
    return cache_folder() / "hub" / file.repository


def _reference(file: HubFile) -> Path:
    return _folder(file) / "refs" / (file.revision or MAIN)


def _cached(file: HubFile) -> Fetched | None:
    """Return a file that is on this machine, in our cache or in HuggingFace's own."""
    reference = _reference(file)
    commit = reference.read_text(encoding="utf-8") if reference.is_file() else file.revision
    path = _folder(file) / commit / file.name
    if commit and path.is_file():
        return Fetched(path, commit)
    # Imported late because it is slow, and most runs need nothing of it.
    from huggingface_hub import try_to_load_from_cache

    shared = try_to_load_from_cache(file.repository, file.name, revision=file.revision or None)
    if not isinstance(shared, str):
        return None
    # .../snapshots/COMMIT/FILE
    return Fetched(Path(shared), Path(shared).parts[-1 - len(Path(file.name).parts)])
