"""``python -m detection_eval COMMAND``: the same as ``llie COMMAND``, but for ``convert``.

That was a command for annotations here, before ``llie convert`` was one for checkpoints.
"""

from __future__ import annotations

from llie_preproc.commands.llie import start

if __name__ == "__main__":
    start(renamed={"convert": "annotations"})
