"""What MMEngine and MMDetection's fork say at each import, and nobody can act upon.

Apart from the rest, because this runs while MMEngine is being imported, and imports nothing itself.
"""

from __future__ import annotations

import logging
import sys
import warnings
from functools import wraps
from typing import Any


def silence() -> None:
    """Let ``print_log`` without a logger heed the level, and MMDetection not warn that optional packages lack.

    Without a logger MMEngine prints every message to standard output. So MMDetection's fork reports, as something for
    debugging, that it comes without a package of its makers. From now on such messages are left out, and warnings go to
    standard error.
    """
    from mmengine import logging as mmengine_logging

    warnings.filterwarnings("ignore", "faster_coco_eval is not installed", UserWarning)
    plain = mmengine_logging.print_log
    if getattr(plain, "heeds_levels", False):
        return

    @wraps(plain)
    def print_log(msg: Any, logger: Any = None, level: int = logging.INFO) -> None:
        if logger is not None or logging.INFO <= level < logging.WARNING:
            plain(msg, logger, level)
        elif level >= logging.WARNING:
            print(msg, file=sys.stderr)

    print_log.heeds_levels = True  # type: ignore[attr-defined]
    mmengine_logging.print_log = mmengine_logging.logger.print_log = print_log
