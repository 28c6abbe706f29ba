"""PSENet on the exposure errors set of Afifi et al.: 30 epochs with alpha 500, on inputs without references.

The environment variable ``EXPOSURE_ERRORS_ROOT`` names the folder, whose layout is in docs/datasets.md. Validation
compares with expert C's pictures of the validation part.
"""

_base_ = "psenet_sice.py"

data_root = "{{$EXPOSURE_ERRORS_ROOT:data/exposure_errors}}"

model = dict(tv_weight=500.0)
train_dataloader = dict(dataset=dict(folder=f"{data_root}/training/INPUT_IMAGES"))
val_dataloader = dict(
    dataset=dict(_delete_=True, type="llie_preproc.ExposureErrors", root=data_root, split="val"),
)
train_cfg = dict(max_epochs=30, val_interval=5)
