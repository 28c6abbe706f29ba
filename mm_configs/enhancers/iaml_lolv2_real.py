"""IAML on LOL-v2, real (689 pairs taken, 100 to validate); all else as on LOL-v1.

The environment variable ``LOLV2_ROOT`` names the folder, which holds ``Real_captured``.
"""

_base_ = "iaml_lolv1.py"

data_root = "{{$LOLV2_ROOT:data/LOLv2}}"

train_dataloader = dict(dataset=dict(type="llie_preproc.LOLv2", root=data_root, subset="real"))
val_dataloader = dict(dataset=dict(type="llie_preproc.LOLv2", root=data_root, subset="real"))
