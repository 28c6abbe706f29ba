"""The DSFD of ``dsfd_vgg16_wider-face.py`` behind a frozen enhancer, ``$ENHANCER`` (default: PSENet).

A checkpoint of the plain detector loads into it and needs no further training.
"""

_base_ = ["dsfd_vgg16_wider-face.py", "../_base_/enhancers/{{$ENHANCER:psenet}}.py"]

work_dir = "work_dirs/dsfd_vgg16_wider-face_{{$ENHANCER:psenet}}"
model = dict(
    _delete_=True, type="llie_preproc.EnhancedDetector", detector={{_base_.model}}, enhancer=_base_.enhancer
)
