"""List the sources of checkpoints, one small table of names each."""

from ..registry import METHODS, resolve
from . import backbones
from .source import Source

# The sources of every method, each once, then those of backbones that any method can use.
SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        *(
            source
            for method in METHODS.values()
            for reference in method.checkpoint_sources
            for source in resolve(reference)
        ),
        *backbones.SOURCES,
    )
}
