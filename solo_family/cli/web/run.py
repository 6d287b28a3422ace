"""What the verb `demo` does with `--web`."""

import argparse
from collections.abc import Callable
from dataclasses import replace

from ...predictor.sources import Source as Model
from ...tiling.tiles import with_tile
from ..saving import make_filters, make_options, saved_formats
from .flags import serving_of
from .model import WebModel
from .server import check_gradio, page_folder, serve


def run_page(args: argparse.Namespace, open_model: Callable[[], Model]) -> int:
    """Serve the page of `--web`.

    Args:
        args: the flags, which `check_web_flags` has checked.
        open_model: opens the model that they name.

    Returns:
        The exit status.

    Raises:
        SoloFamilyError: a flag can't work, or a package is missing.
        Stopped: a signal has ended it.
    """
    saved_formats(args)
    with page_folder() as folder:
        check_gradio()  # before the model is loaded, which takes longer
        model = open_model()
        filters = make_filters(args, model.metadata)
        web_model = WebModel(
            model,
            name=str(args.exported or args.config_file),
            tiling=with_tile(model.tiling, args.tile),
            # The page has a choice of classes of its own.
            filters=replace(filters, labels=None),
            options=make_options(args),
        )
        return serve(web_model, serving_of(args, filters.labels or (), model.threshold), folder)
