"""The test part of Afifi et al.'s exposure errors as PSENet evaluates on it: against expert E, at full size.

``llie quality --config mm_configs/evaluation/exposure_errors.py --metrics psnr ssim_piq``; its two
halves are ``--cfg-options val_dataloader.dataset.exposures=under`` and ``over`` (which has 0 EV). The layout of
``data_root`` is in docs/datasets.md.
"""

data_root = "data/exposure_errors"

val_dataloader = dict(
    dataset=dict(
        type="llie_preproc.ExposureErrors", root=data_root, split="test", expert="e", exposures="all"
    )
)
