"""``python -m detection_eval COMMAND`` does what ``llie COMMAND`` does, except for ``convert``.

Here ``convert`` runs ``llie annotations``, which had that name before ``llie convert`` was given to checkpoints.
"""

from __future__ import annotations

from llie_preproc.commands.llie import start

if __name__ == "__main__":
    start(renamed={"convert": "annotations"})
