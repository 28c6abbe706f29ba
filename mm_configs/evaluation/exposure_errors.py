"""The test part of Afifi et al.'s exposure errors as PSENet evaluates on it: against expert E, at full size.

``llie quality --config mm_configs/evaluation/exposure_errors.py --metrics psnr ssim_piq``; its two
halves are ``--cfg-options val_dataloader.dataset.exposures=under`` and ``over`` (which has 0 EV). The environment
variable ``EXPOSURE_ERRORS_ROOT`` names the folder, of the layout in docs/datasets.md.
"""

data_root = "{{$EXPOSURE_ERRORS_ROOT:data/exposure_errors}}"

val_dataloader = dict(
    dataset=dict(
        type="llie_preproc.ExposureErrors", root=data_root, split="test", expert="e", exposures="all"
    )
)
