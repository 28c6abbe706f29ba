"""The test part of Afifi et al.'s exposure errors, as PSENet is evaluated on it: against expert E, at full size.

``llie quality --config mm_configs/evaluation/exposure_errors.py --metrics psnr ssim_piq`` evaluates it. ``--cfg-options
val_dataloader.dataset.exposures=under`` and ``over`` choose its two halves; 0 EV belongs to ``over``. The environment
variable ``EXPOSURE_ERRORS_ROOT`` names the folder, whose layout is in docs/datasets.md.
"""

data_root = "{{$EXPOSURE_ERRORS_ROOT:data/exposure_errors}}"

val_dataloader = dict(
    dataset=dict(
        type="llie_preproc.ExposureErrors", root=data_root, split="test", expert="e", exposures="all"
    )
)
