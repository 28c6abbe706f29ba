"""GainUNet, trained further on light that varies as in real night pictures.

It starts from the result of ``detector_consistency_yolox-nano.py``, which ``GAIN_UNET`` names. Fields of light are deeper
here, lamps are smaller and stronger, and cameras smooth most of the noise, so that the brightness histogram is near that
of ExDark (docs/datasets.md). docs/training.md has what came of it.
"""

_base_ = "detector_consistency_yolox-nano.py"

steps = 1200
model = dict(enhancer=dict(checkpoint="{{$GAIN_UNET:work_dirs/detector_consistency_yolox-nano/enhancer.safetensors}}"))

camera = dict(
    type="llie_preproc.LowLightSynthesis", gamma=(1.0, 1.0), electrons=(1500.0, 8000.0), read_noise=(1.0, 4.0)
)
jpeg = dict(type="llie_preproc.JPEGCompression")
even = dict(camera, exposure=(0.0055, 1.23), processing=dict(type="llie_preproc.CameraProcessing"))
uneven = dict(
    camera,
    exposure=(0.0055, 0.3),
    processing=dict(type="llie_preproc.CameraProcessing", share=0.6, blur_share=0.8, blur=(0.5, 1.5)),
    illumination=dict(
        type="llie_preproc.NightIllumination",
        field_share=0.9,
        field_stops=(1.2, 3.0),
        tint_share=0.8,
        tint=0.4,
        lamp_share=0.8,
        lamp_stops=(3.0, 8.0),
        lamp_radius=(0.01, 0.06),
    ),
)
synthesis = dict(
    type="llie_preproc.RandomSynthesis",
    choices=[
        dict(share=0.20, steps=[]),
        dict(share=0.07, steps=[dict(type="llie_preproc.RandomGamma")]),
        dict(share=0.28, steps=[even, jpeg]),
        dict(share=0.45, steps=[uneven, jpeg]),
    ],
)
pictures = dict(type="llie_preproc.SynthesisedPairs", synthesis=synthesis, transforms={{_base_.transforms}})
train_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(pictures, folder={{_base_.coco_root}}),
            dict(pictures, folder={{_base_.well_lit_root}}),
            dict(pictures, folder={{_base_.sice_root}}, names="{{ fileDirname }}/../_base_/sice_part1_well_exposed.txt"),
        ],
    ),
)

optim_wrapper = dict(optimizer=dict(lr=3e-4))
train_cfg = dict(max_iters=steps, val_interval=steps)
param_scheduler = [dict(type="OneCycleLR", eta_max=3e-4, total_steps=steps, pct_start=0.1, by_epoch=False)]
