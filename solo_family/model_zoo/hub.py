"""Files of the HuggingFace Hub: its own library knows its cache, resuming and being offline."""

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
    """A file of a repository of models."""

    repository: str
    revision: str
    name: str


def hub_file(address: str) -> HubFile | None:
    """Return what an address of huggingface.co names, or None for other addresses."""
    match = _ADDRESS.match(address)
    return HubFile(**match.groupdict()) if match else None


def download_from_hub(file: HubFile) -> Path:
    """Fetch a file unless it is in the cache.

    The cache is HuggingFace's own (`HF_HOME`), which other programs share, unless
    `$SOLO_FAMILY_CACHE` names another. `HF_HUB_OFFLINE=1` asks nobody.

    Returns:
        Its path in the cache.

    Raises:
        DataError: there is no network, no such file there, or no writing here.
    """
    # Here, because its import takes a while, and most runs download nothing.
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
            f"{place} is not in the cache, and can't be reached: is there a network, or is "
            "HF_HUB_OFFLINE set? A file that was fetched elsewhere is taken by "
            "`python -m solo_family convert`."
        ) from error
    except HfHubHTTPError as error:
        raise DataError(
            f"{place} is not there any more ({first_line(error)}). Look for the file at its "
            "authors' page, see docs/model_zoo.md, and convert it."
        ) from error
    except OSError as error:
        raise DataError(
            f"{place} can't be written to the cache ({first_line(error)}): name another folder for "
            f"downloads in the environment variable {CACHE_VARIABLE}."
        ) from error
    except Exception as error:  # of whichever HTTP library it is built on
        raise DataError(
            f"{place} can't be fetched ({first_line(error)}). Call again to go on from where it "
            "stopped."
        ) from error
