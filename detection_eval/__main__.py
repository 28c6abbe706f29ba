"""``python -m detection_eval COMMAND`` does what ``llie COMMAND`` does, except for ``convert``.

Here ``convert`` runs ``llie annotations``. That command had the name ``convert`` before ``llie convert`` became the
command for checkpoints.
"""

from __future__ import annotations

from llie_preproc.commands.llie import start

if __name__ == "__main__":
    start(renamed={"convert": "annotations"})
