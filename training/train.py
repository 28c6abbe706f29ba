"""``python -m training.train CONFIG``: the same as ``llie train CONFIG``."""

from __future__ import annotations

from llie_preproc.commands.llie import start

if __name__ == "__main__":
    start("train")
