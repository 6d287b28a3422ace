"""Ask the HuggingFace Hub about a file, and say in a line why it does not give it."""

import os
from typing import Any

from ..errors import DataError, first_line
from .hub_file import COMMIT, MAIN, HubFile


class MissingFile(DataError):
    """The repository exists, but has no such file."""


class Unreachable(DataError):
    """The Hub does not answer."""


def endpoint() -> str:
    """Return the address of the Hub: `$HF_ENDPOINT`, or else that of huggingface.co."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def ask(file: HubFile) -> tuple[Any, dict[str, str]]:
    """Return what the Hub says of a file, and the headers of the request with the user's token.

    Returns:
        huggingface_hub's `HfFileMetadata`, with a commit and a location on the web; the headers by
        name.

    Raises:
        MissingFile: the repository has no such file.
        Unreachable: the Hub does not answer.
        DataError: there is no such repository or revision, or the user may not read it.
    """
    # Imported late because it is slow, and most runs need nothing of it.
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils import build_hf_headers

    try:
        url = hf_hub_url(
            file.repository, file.name, revision=file.revision or None, endpoint=endpoint()
        )
        headers = build_hf_headers(library_name="solo_family")
        found = get_hf_file_metadata(url, headers=headers)
    except HFValidationError as error:
        raise DataError(f"{file}: {first_line(error)}") from error
    except HfHubHTTPError as error:
        raise _refusal(file, error) from error
    # The library raises the errors of whichever HTTP client its version uses.
    except Exception as error:
        raise Unreachable(
            f"{file} is not in the cache, and {_place(file)} can't be reached "
            f"({first_line(error)}). Check the network, or copy the cache of a machine that has "
            "the file."
        ) from error
    # Both are used as they are: one as the name of a folder, the other as an address to open.
    is_hub = COMMIT.fullmatch(found.commit_hash or "") is not None
    if not is_hub or not found.location.startswith(("http://", "https://")):
        raise Unreachable(
            f"{_place(file)} does not answer as the HuggingFace Hub does. Check the network, and "
            "HF_ENDPOINT if it is set."
        )
    return found, headers


def _place(file: HubFile) -> str:
    return f"{endpoint()}/{file.repository}"


def _refusal(file: HubFile, error: Any) -> DataError:
    """Return the error for an answer of the Hub that is none of the file."""
    from huggingface_hub import errors

    place, status = _place(file), getattr(error.response, "status_code", 0)
    if isinstance(error, errors.GatedRepoError):
        return DataError(
            f"{file}: {place} gives its files only to those who have asked for them. Ask on that "
            "page; then run `hf auth login`, or set HF_TOKEN."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return DataError(
            f"{file}: there is no model {place}, or it is private. Correct the name; for a private "
            "one, run `hf auth login`, or set HF_TOKEN."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return DataError(
            f"{file}: {place} has no branch, tag or commit {file.revision}. Correct what follows @."
        )
    if isinstance(error, errors.EntryNotFoundError):
        return MissingFile(
            f"{file}: {place} has no file {file.name}. {place}/tree/{file.revision or MAIN} lists "
            "its files."
        )
    if status in (401, 403):
        return DataError(
            f"{file}: {place} refuses to give it ({status}). Run `hf auth login`, or set "
            "HF_TOKEN, with an account that may read it."
        )
    return Unreachable(f"{place} can't be read now ({first_line(error)}).")
