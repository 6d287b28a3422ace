"""Look names of timm's models up: `resnet18`, or `resnet18.a1_in1k` with the tag of its weights."""

import difflib

import timm
from timm.models import is_model, is_model_pretrained

from ...errors import ConfigError

# Of a list in an error.
_SHOWN = 8


def check_name(name: str, key: str, pretrained: bool = False) -> None:
    """Check that timm has a model, and weights with its tag.

    Args:
        name: timm's name, with or without a tag.
        key: the config's node for the backbone.
        pretrained: whether its weights are downloaded.

    Raises:
        ConfigError: there is no such model, no such tag, or there are no weights.
    """
    architecture, _, tag = name.partition(".")
    if not is_model(architecture):
        names = timm.list_models()
        near = ", ".join(difflib.get_close_matches(architecture, names, n=_SHOWN))
        raise ConfigError(
            f"{key}.NAME is {name!r}, which timm {timm.__version__} does not have. The "
            f"nearest: {near or 'nothing'}; all: timm.list_models()."
        )
    if (tag or pretrained) and not is_model_pretrained(name):
        tagged = timm.list_models(f"{architecture}.*", pretrained=True)
        known = f"it has {', '.join(tagged[:_SHOWN])}" if tagged else "it has none of this model"
        wrong = f"{key}.NAME is {name!r}" if tag else "MODEL.TIMM.WEIGHTS is 'pretrained'"
        remedy = "" if tag else " Name a checkpoint file, or set MODEL.TIMM.WEIGHTS ''."
        raise ConfigError(
            f"{wrong}, but timm {timm.__version__} has no such weights of {architecture}; "
            f"{known}.{remedy}"
        )
