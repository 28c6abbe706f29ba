"""DARK FACE to test on: every picture of a folder with its annotations, one class, COCO-style AP.

The environment variable ``DARKFACE_ROOT`` names the folder (by default ``data/DarkFace``). It holds ``image``,
``label`` and the file that this command writes::

    llie annotations darkface image label --out annotations/darkface.json

The benchmark's own AP comes from ``llie faces``.
"""

darkface_root = "{{$DARKFACE_ROOT:data/DarkFace}}/"

darkface_set = dict(
    data_root=darkface_root,
    ann_file="annotations/darkface.json",
    data_prefix=dict(img="image/"),
)
darkface_evaluator = dict(ann_file=darkface_root + "annotations/darkface.json")
