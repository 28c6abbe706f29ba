"""SICE part 2 as PSENet evaluates on it: every exposure of 229 sequences with its label, both at a quarter of the size.

``llie quality --config mm_configs/evaluation/sice_part2.py --metrics psnr ssim_piq``; the environment
variable ``SICE_ROOT`` names the folder, of the layout in docs/datasets.md.
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
