"""Moving the output of MMEngine, MMDetection and pycocotools to the log of the work folder.

Their warnings go to standard error. Standard output is left to the results of a command.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
from collections.abc import Iterator

from tqdm import tqdm

from ..errors import needs

with needs("llie_preproc.mm.console"):
    from mmengine.logging import MMLogger

# MMEngine warns of calls of its own hooks, which users cannot change, and of each parameter that a config freezes.
_NOT_FOR_USERS = re.compile(
    '"FileClient" will be deprecated|"HardDiskBackend" is the alias|.* is skipped since its requires_grad=False'
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within the block, send what libraries print to the log of the last Runner, and let loggers show only warnings.

    Examples:
        >>> with quiet():
        ...     print("a library's message")
    """
    # MMEngine creates a logger, with a handler for the console, only when it first needs one.
    MMLogger.get_current_instance()
    for logger in MMLogger._instance_dict.values():
        only_warn(logger)
    with contextlib.redirect_stdout(_Log()):
        yield


def only_warn(logger: MMLogger) -> MMLogger:
    """Let a logger write only warnings to the console, and everything to its file; return the logger.

    Examples:
        >>> logger = only_warn(MMLogger.get_current_instance())
        >>> logger.info("for the file alone")
    """
    logger.handlers[:] = [_Warnings(h) if type(h) is logging.StreamHandler else h for h in logger.handlers]
    return logger


class _Warnings(logging.Handler):
    """A handler that writes warnings to standard error, on separate lines that do not break progress bars.

    Args:
        console: Handler that this one replaces; its level and filters are kept. On processes other than the first,
            MMEngine's handler lets only errors pass.
    """

    def __init__(self, console: logging.Handler) -> None:
        super().__init__(max(console.level, logging.WARNING))
        self.filters = console.filters

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        if not _NOT_FOR_USERS.match(record.getMessage()):
            tqdm.write(f"{record.levelname.lower()}: {record.getMessage()}", file=sys.stderr)


class _Log(io.TextIOBase):
    """A standard output whose lines go to the current log."""

    def __init__(self) -> None:
        self._begun = ""

    def write(self, text: str) -> int:
        """Log the complete lines."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in filter(str.strip, lines):
            MMLogger.get_current_instance().info(line)
        return len(text)
