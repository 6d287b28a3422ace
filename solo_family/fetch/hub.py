"""Files of the HuggingFace Hub: found by its own library, downloaded and checked as all others.

Below the cache folder, `hub/OWNER/REPO/COMMIT/FILE` is a file of a commit, and
`hub/OWNER/REPO/refs/REVISION` the commit that a branch or tag was when it was last asked for.
Files that other programs have put into HuggingFace's own cache (`HF_HOME`) are taken from there.
"""

import logging
import os
import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..errors import ConfigError, DataError, first_line
from ..files import replacing
from .cache import cache_folder, offline
from .checksums import of_etag
from .download import download

logger = logging.getLogger(__name__)

PREFIX = "hf:"
_MAIN = "main"
_PART = r"[A-Za-z0-9_][\w.-]*"
_NAME = re.compile(rf"({_PART}/{_PART})(?:/([^@]+))?(?:@([\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ADDRESS = re.compile(
    r"https://huggingface\.co/(?P<repository>[^/]+/[^/]+)/(?:resolve|blob)/(?P<revision>[^/]+)/"
    r"(?P<name>[^?#]+)"
)


class HubFile(NamedTuple):
    """A file in a model repository of the HuggingFace Hub.

    Attributes:
        repository: OWNER/REPO.
        name: its path in the repository; "" for the repository itself.
        revision: a branch, a tag or a commit; "" for the main branch as the cache has it.
    """

    repository: str
    name: str = ""
    revision: str = ""

    def __str__(self) -> str:
        name = f"/{self.name}" if self.name else ""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{PREFIX}{self.repository}{name}{revision}"


class Fetched(NamedTuple):
    """A file on this machine, and the commit that it is of."""

    path: Path
    commit: str


class MissingFile(DataError):
    """The repository exists, but has no such file."""


def parse_hub(text: str) -> HubFile:
    """Return the file that `hf:OWNER/REPO[/FILE][@REVISION]` names.

    Raises:
        ConfigError: the text has another form.
    """
    match = _NAME.fullmatch(text.removeprefix(PREFIX))
    parts = [] if match is None else f"{match[2] or 'x'}/{match[3] or 'x'}".split("/")
    if match is None or any(part in ("", ".", "..") for part in parts):
        raise ConfigError(
            f"{text} names no model of the HuggingFace Hub. Write hf:OWNER/REPO, "
            "hf:OWNER/REPO/FILE for a file of it, and @REVISION at the end for a branch, tag or "
            "commit."
        )
    return HubFile(match[1], match[2] or "", match[3] or "")


def hub_file(address: str) -> HubFile | None:
    """Return the file that an address of huggingface.co names; None for other addresses.

    Its main branch is the one that the cache has, if it has one.
    """
    match = _ADDRESS.match(address)
    if match is None:
        return None
    revision = "" if match["revision"] == _MAIN else match["revision"]
    return HubFile(match["repository"], match["name"], revision)


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
    is_moving = file.revision and not _COMMIT.fullmatch(file.revision)
    if cached is not None and (not is_moving or offline()):
        return cached
    if offline():
        raise DataError(
            f"{file} is not in the cache ({_folder(file)}), and {offline()} forbids to ask the "
            "Hub. Unset that variable for one run, or copy the cache of a machine that has the "
            "file."
        )
    try:
        found, headers = _ask(file)
    except _Unreachable as error:
        if cached is None:
            raise
        logger.warning(f"{error} The file in the cache is used, of commit {cached.commit[:8]}.")
        return cached
    path = _folder(file) / found.commit_hash / file.name
    is_here = urlsplit(found.location).netloc == urlsplit(_endpoint()).netloc
    download(
        found.location,
        path,
        checksum or of_etag(found.etag or ""),
        {"Authorization": headers["authorization"]}
        if is_here and "authorization" in headers
        else None,
    )
    if not _COMMIT.fullmatch(file.revision):
        reference = _reference(file)
        reference.parent.mkdir(parents=True, exist_ok=True)
        with replacing(reference) as temporary:
            temporary.write_text(found.commit_hash, encoding="utf-8")
    return Fetched(path, found.commit_hash)


class _Unreachable(DataError):
    """The Hub does not answer."""


def _folder(file: HubFile) -> Path:
    return cache_folder() / "hub" / file.repository


def _reference(file: HubFile) -> Path:
    return _folder(file) / "refs" / (file.revision or _MAIN)


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


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


def _ask(file: HubFile) -> tuple[Any, dict[str, str]]:
    """Return what the Hub says of a file, and the headers of the request with the user's token.

    Raises:
        DataError: see `fetch_from_hub`.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils import build_hf_headers

    place = f"{_endpoint()}/{file.repository}"
    try:
        url = hf_hub_url(
            file.repository, file.name, revision=file.revision or None, endpoint=_endpoint()
        )
        headers = build_hf_headers(library_name="solo_family")
        found = get_hf_file_metadata(url, headers=headers)
    except HFValidationError as error:
        raise DataError(f"{file}: {first_line(error)}") from error
    except GatedRepoError as error:
        raise DataError(
            f"{file}: {place} gives its files only to those who have asked for them. Ask on that "
            "page; then run `hf auth login`, or set HF_TOKEN."
        ) from error
    except RepositoryNotFoundError as error:
        raise DataError(
            f"{file}: there is no model {place}, or it is private. Correct the name; for a private "
            "one, run `hf auth login`, or set HF_TOKEN."
        ) from error
    except RevisionNotFoundError as error:
        raise DataError(
            f"{file}: {place} has no branch, tag or commit {file.revision}. Correct what follows @."
        ) from error
    except EntryNotFoundError as error:
        raise MissingFile(
            f"{file}: {place} has no file {file.name}. {place}/tree/{file.revision or _MAIN} lists "
            "its files."
        ) from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", 0)
        if status in (401, 403):
            raise DataError(
                f"{file}: {place} refuses to give it ({status}). Run `hf auth login`, or set "
                "HF_TOKEN, with an account that may read it."
            ) from error
        raise _Unreachable(f"{place} can't be read now ({first_line(error)}).") from error
    # The library raises the errors of whichever HTTP client its version uses.
    except Exception as error:
        raise _Unreachable(
            f"{file} is not in the cache, and {place} can't be reached ({first_line(error)}). "
            "Check the network, or copy the cache of a machine that has the file."
        ) from error
    if found.commit_hash is None:
        raise _Unreachable(
            f"{place} does not answer as the HuggingFace Hub does. Check the network, and "
            "HF_ENDPOINT if it is set."
        )
    return found, headers
