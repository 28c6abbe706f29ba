"""Shortcuts through MMEngine that save time and change no value."""

from __future__ import annotations

import contextlib
import functools


def take_shortcuts() -> None:
    """Let MMEngine read MMDetection's index once in this process, and leave the configs that it writes unformatted.

    MMEngine reads the hundred files of the index for each config, and a runner formats its config three times for the
    log. Together this takes longer than the rest of a short run.
    """
    with contextlib.suppress(ImportError):
        from mmengine.config import utils
        from yapf.yapflib import yapf_api

        utils.load = functools.cache(utils.load)
        yapf_api.FormatCode = lambda code, **_: (code, True)
