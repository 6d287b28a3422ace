"""Read the description of an exported folder."""

import json
from pathlib import Path
from typing import Any

from ..errors import DataError, first_line

DESCRIPTION = "model.json"
LAYOUT = 1  # version of model.json


def read_description(folder: Path) -> dict[str, Any]:
    """Return the content of an exported folder's `model.json`.

    Raises:
        DataError: the file is missing, unreadable, or of another version.
    """
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{folder} is not an exported model: there is no {DESCRIPTION} to read "
            f"({error.strerror}). `python -m solo_family export` writes one."
        ) from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {first_line(error)}. Export again.") from error
    layout = description.get("layout") if isinstance(description, dict) else None
    if layout != LAYOUT:
        raise DataError(
            f"{path} has the layout {layout}, but this runtime reads {LAYOUT}. Export again, or "
            "use the version of solo_family that exported it."
        )
    return description
