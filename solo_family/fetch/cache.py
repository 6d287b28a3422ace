"""Where downloads are kept, and whether there may be any."""

import os
from pathlib import Path

CACHE_VARIABLE = "SOLO_FAMILY_CACHE"
OFFLINE_VARIABLES = ("SOLO_FAMILY_OFFLINE", "HF_HUB_OFFLINE")
_NO = ("", "0", "false", "no", "off")


def cache_folder() -> Path:
    """Return `$SOLO_FAMILY_CACHE`, or else the folder `solo_family` in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "solo_family"
    return Path(os.environ.get(CACHE_VARIABLE) or default).expanduser()


def offline() -> str:
    """Return the environment variable that forbids requests, as NAME=VALUE; "" if none does."""
    for name in OFFLINE_VARIABLES:
        value = os.environ.get(name, "").strip()
        if value.lower() not in _NO:
            return f"{name}={value}"
    return ""
