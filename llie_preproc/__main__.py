"""``python -m llie_preproc``: the ``llie`` program."""

from __future__ import annotations

from llie_preproc.commands.llie import start

if __name__ == "__main__":
    start()
