"""IAML on the real part of LOL-v2 (689 pairs to train on, 100 to validate on); all else is as on LOL-v1.

The environment variable ``LOLV2_ROOT`` names the folder, which holds ``Real_captured``.
"""

_base_ = "iaml_lolv1.py"

data_root = "{{$LOLV2_ROOT:data/LOLv2}}"

train_dataloader = dict(dataset=dict(type="llie_preproc.LOLv2", root=data_root, subset="real"))
val_dataloader = dict(dataset=dict(type="llie_preproc.LOLv2", root=data_root, subset="real"))
