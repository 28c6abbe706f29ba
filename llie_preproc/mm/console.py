"""What MMEngine, MMDetection and pycocotools say goes to the log of the work folder, and warnings to standard error.

Standard output is left to the results of a command.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Iterator

from tqdm import tqdm

from ..errors import needs

with needs("llie_preproc.mm.console"):
    from mmengine.logging import MMLogger

# What MMEngine says of its own hooks' calls: nobody else can call another function there.
_TO_ITSELF = ('"FileClient" will be deprecated', '"HardDiskBackend" is the alias')


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, what libraries print goes to the log of the Runner that was built last, and loggers only warn."""
    # MMEngine makes a logger when it first needs one, with a handler of its own.
    MMLogger.get_current_instance()
    for logger in MMLogger._instance_dict.values():
        only_warn(logger)
    with contextlib.redirect_stdout(_Log()):
        yield


def only_warn(logger: MMLogger) -> MMLogger:
    """Let a logger, which is returned, write warnings alone to the console; its file keeps everything."""
    logger.handlers[:] = [_Warnings(h) if type(h) is logging.StreamHandler else h for h in logger.handlers]
    return logger


class _Warnings(logging.Handler):
    """Writes warnings to standard error, on lines of their own beside progress bars.

    Args:
        console: Handler that it replaces, with its filters; on processes other than the first it lets only errors pass.
    """

    def __init__(self, console: logging.Handler) -> None:
        super().__init__(max(console.level, logging.WARNING))
        self.filters = console.filters

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        if not record.getMessage().startswith(_TO_ITSELF):
            tqdm.write(f"{record.levelname.lower()}: {record.getMessage()}", file=sys.stderr)


class _Log(io.TextIOBase):
    """A standard output whose lines go to the current log."""

    def __init__(self) -> None:
        self._begun = ""

    def write(self, text: str) -> int:
        """Log the lines that are complete."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in filter(str.strip, lines):
            MMLogger.get_current_instance().info(line)
        return len(text)
