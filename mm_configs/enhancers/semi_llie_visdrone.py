"""Semi-LLIE on darkened day pictures of VisDrone and on its night pictures; all else is as on LSRW.

The paper's 5,213 + 533 day and 1,258 night pictures are not listed anywhere, so ``lists`` must hold your own
lists, with one file name in each line. The environment variable ``VISDRONE_ROOT`` names the folder, which holds
``VisDrone2019-DET-train``, ``VisDrone2019-DET-val`` and ``lists``.

The paper does not say how it darkens day pictures; its code suggests a CycleGAN. This config uses the synthesis of
``LowLightSynthesis``. If you have dark versions of your own, in ``dark`` beside ``images``, set ``kind='paired'`` in
the paired set and in validation. Validation resizes to 256x256, as the public code does.
"""

_base_ = "semi_llie_lsrw.py"

data_root = "{{$VISDRONE_ROOT:data/VisDrone2019-DET}}"
lists = f"{data_root}/lists"

train_dataloader = dict(
    dataset=dict(
        paired=dict(
            type="llie_preproc.NightVisDrone", root=data_root, kind="synthesised", names=f"{lists}/day_train.txt"
        ),
        unpaired=dict(
            _delete_=True,
            type="llie_preproc.NightVisDrone",
            root=data_root,
            kind="unpaired",
            names=f"{lists}/night_train.txt",
            transforms=[dict(type="llie_preproc.PairedResize", size=256)],
        ),
    ),
)
val_dataloader = dict(
    # With this seed the noise of the synthesis is the same in every run.
    sampler=dict(seed=0),
    dataset=dict(
        _delete_=True,
        type="llie_preproc.NightVisDrone",
        root=data_root,
        kind="synthesised",
        names=f"{lists}/day_val.txt",
        transforms=[dict(type="llie_preproc.PairedResize", size=256)],
    ),
)
