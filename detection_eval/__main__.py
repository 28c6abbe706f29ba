"""``python -m detection_eval COMMAND`` does what ``llie COMMAND`` does, except for ``convert``.

Here ``convert`` stands for ``llie annotations``, whose name it was before ``llie convert`` converted checkpoints.
"""

from __future__ import annotations

from llie_preproc.commands.llie import start

if __name__ == "__main__":
    start(renamed={"convert": "annotations"})
