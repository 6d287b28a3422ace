"""The names of files on the HuggingFace Hub: `hf:OWNER/REPO[/FILE][@REVISION]`, or an address."""

import re
from typing import NamedTuple

from ..errors import ConfigError

PREFIX = "hf:"
MAIN = "main"
COMMIT = re.compile(r"[0-9a-f]{40}")
_PART = r"[A-Za-z0-9_][\w.-]*"
_NAME = re.compile(rf"({_PART}/{_PART})(?:/([^@]+))?(?:@([\w./-]+))?")
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
    revision = "" if match["revision"] == MAIN else match["revision"]
    return HubFile(match["repository"], match["name"], revision)
