"""``python -m detection_eval COMMAND``: the same as ``llie COMMAND``."""

from __future__ import annotations

from llie_preproc.commands.llie import start

if __name__ == "__main__":
    start()
