"""Write the report of a training that has ended; whatever fails in it, the training has not."""

import logging
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.utils import comm

from ..errors import first_line
from ..stopping import Stopped
from .ending import ENDING

logger = logging.getLogger(__name__)


def report_training(cfg: CfgNode) -> None:
    """Write the report of a run's folder, in the main process, if `OUTPUT.REPORT` is True.

    Raises:
        Stopped: a signal has ended it; the training is complete.
    """
    if not cfg.OUTPUT.REPORT or not comm.is_main_process():
        return
    again = f"python -m solo_family report {cfg.OUTPUT_DIR}"
    try:
        with ENDING.at_once():
            from ..report.write import write_report  # with matplotlib

            logger.info(
                "The training has ended. Its report: %s", write_report(cfg, Path(cfg.OUTPUT_DIR))
            )
    except Stopped as stopped:
        raise Stopped(
            stopped.number, f"the training is complete, its report is not: {again}"
        ) from None
    except Exception as error:
        logger.warning(f"The training has ended; its report failed: {first_line(error)} ({again})")
