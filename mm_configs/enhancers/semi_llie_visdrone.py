"""Semi-LLIE on VisDrone's day pictures, darkened, and its night pictures; all else as on LSRW.

The paper's 5,213 + 533 day and 1,258 night pictures are not listed anywhere: ``lists`` holds yours, one file name a
line. The environment variable ``VISDRONE_ROOT`` names the folder, which holds ``VisDrone2019-DET-train``,
``VisDrone2019-DET-val`` and ``lists``.

How the paper darkens day pictures is not said (its code suggests a CycleGAN); here it is the documented synthesis.
With your own dark versions, in ``dark`` beside ``images``, set ``kind='paired'`` of the paired set and of validation.
Validation resizes to 256x256, as the public code does.
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
    # The noise of the synthesis is the same in every run.
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
