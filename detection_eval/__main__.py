"""``python -m detection_eval``: measurements from the shell."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module

from llie_preproc.commands.program import Parser, importing, launch, run
from llie_preproc.errors import MissingExtraError

if __name__ == "__main__":
    launch("detection_eval.__main__")

# Each imports what it needs, so that a missing extra stops none but its own.
_COMMANDS = {
    "cache": "detection_eval.cache",
    "convert": "detection_eval.convert",
    "night": "detection_eval.night",
    "quality": "detection_eval.quality",
    "score": "detection_eval.score",
    "gamma-shift": "detection_eval.gamma_shift",
    "fddb": "detection_eval.fddb",
    "faces": "detection_eval.faces.command",
    "sam": "detection_eval.sam.command",
    "compare": "detection_eval.compare.command",
    "report": "detection_eval.compare.report_command",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 1 where some of the work failed, 2 where nothing could be begun."""
    return run(partial(_main, sys.argv[1:] if argv is None else argv))


def _main(argv: Sequence[str]) -> int:
    # The parser imports the command.
    with importing():
        args = _parser(argv).parse_args(argv)
    return args.run(args)


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = Parser(prog="python -m detection_eval", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    # One that is asked for is imported alone: MMDetection takes seconds.
    asked = [name for name in _COMMANDS if name in argv[:1]]
    for name in asked or _COMMANDS:
        try:
            import_module(_COMMANDS[name]).add_parser(commands)
        except MissingExtraError as error:
            if asked:
                raise
            commands.add_parser(name, help=str(error).replace("%", "%%"))
    return parser
