"""Files of the HuggingFace Hub, downloaded by its own library, which has a cache and resumes."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError, first_line
from .download import CACHE_VARIABLE, cache_folder

_ADDRESS = re.compile(
    r"https://huggingface\.co/(?P<repository>[^/]+/[^/]+)/(?:resolve|blob)/(?P<revision>[^/]+)/"
    r"(?P<name>[^?#]+)"
)


class HubFile(NamedTuple):
    """A file in a model repository of the HuggingFace Hub."""

    repository: str
    revision: str
    name: str


def hub_file(address: str) -> HubFile | None:
    """Return the file that an address of huggingface.co names; None for other addresses."""
    match = _ADDRESS.match(address)
    return HubFile(**match.groupdict()) if match else None


def download_from_hub(file: HubFile) -> Path:
    """Download a file, unless it is in the cache.

    The cache is HuggingFace's own (`HF_HOME`), which other programs share, unless
    `$SOLO_FAMILY_CACHE` names another folder. With `HF_HUB_OFFLINE=1` only the cache is used.

    Args:
        file: the file on the hub.

    Returns:
        The path of the file in the cache.

    Raises:
        DataError: the hub can't be reached or has no such file, or the cache can't be written to.
    """
    # Imported here because the import is slow, and most runs download nothing.
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    place = f"{file.name} of https://huggingface.co/{file.repository}"
    own = cache_folder() / "huggingface" if os.environ.get(CACHE_VARIABLE) else None
    try:
        return Path(
            hf_hub_download(file.repository, file.name, revision=file.revision, cache_dir=own)
        )
    except LocalEntryNotFoundError as error:
        raise DataError(
            f"{place} is not in the cache, and can't be reached. Check the network, and that "
            "HF_HUB_OFFLINE is not set; or download the file on another machine, and run "
            "`python -m solo_family convert` on it."
        ) from error
    except HfHubHTTPError as error:
        raise DataError(
            f"{place} does not exist any more ({first_line(error)}). Look for the file on the page "
            "of its authors (docs/model_zoo.md), download it there, and run "
            "`python -m solo_family convert` on it."
        ) from error
    except OSError as error:
        raise DataError(
            f"{place} can't be written to the cache ({first_line(error)}). Set the environment "
            f"variable {CACHE_VARIABLE} to another folder for downloads."
        ) from error
    except Exception as error:  # any error of the HTTP library that huggingface_hub uses
        raise DataError(
            f"{place} can't be downloaded ({first_line(error)}). Run the same command again to "
            "resume it."
        ) from error
