"""Silencing messages of MMEngine, MMDetection and PyTorch that appear in every run and that nobody needs to act upon.

This module stands alone and imports nothing else of this package, because it runs while MMEngine is being imported.
"""

from __future__ import annotations

import logging
import sys
import warnings
from functools import wraps
from typing import Any

# These warn of an optional package, of the number of loader processes (which MMDetection's configs choose for servers),
# and of a call that MMDetection makes.
_NOT_FOR_USERS = (
    "faster_coco_eval is not installed",
    r"This DataLoader will create \d+ worker processes in total",
    "torch.meshgrid: in an upcoming release",
)


def silence() -> None:
    """Let ``print_log`` without a logger respect the level, and suppress three warnings that are not for users.

    Without a logger, MMEngine prints messages of every level to standard output, such as a debug message of
    MMDetection's fork about a package that is not installed. After this call, debug messages are not printed, and
    warnings go to standard error.

    Examples:
        >>> import logging
        >>> from mmengine.logging import print_log
        >>> silence()
        >>> print_log("a detail", level=logging.DEBUG)
    """
    from mmengine import logging as mmengine_logging

    for message in _NOT_FOR_USERS:
        warnings.filterwarnings("ignore", message, UserWarning)
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
