"""SICE part 2, as PSENet is evaluated on it: every exposure of 229 sequences with its label, at a quarter of the size.

``llie quality --config mm_configs/evaluation/sice_part2.py --metrics psnr ssim_piq`` evaluates it. The environment
variable ``SICE_ROOT`` names the folder, whose layout is in docs/datasets.md.
"""

data_root = "{{$SICE_ROOT:data/sice}}"

val_dataloader = dict(
    dataset=dict(
        type="llie_preproc.SICE",
        root=data_root,
        part=2,
        transforms=[dict(type="llie_preproc.PairedResize", factor=0.25)],
    )
)
