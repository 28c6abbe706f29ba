"""PSENet on SICE part 1 without its validation scenes, in steps instead of epochs, and with averaged weights.

The pictures are those of the list ``sice_part1_train.txt``, which shows none of the scenes that
``sice_part1_sequences_val.json`` lists. A step has eight pictures; the learning rate falls to almost 0, and the shipped
weights are a moving average, because a reduced schedule of small batches ends in noise. ``SICE_PART1_ROOT`` and
``LOLV1_ROOT`` are as in ``psenet_sice.py``, but the validation pairs are those of ``our485``.
"""

_base_ = "psenet_sice.py"

steps = 3000
pairs_root = "{{$LOLV1_ROOT:data/LOLv1}}/our485"

model = dict(ema=0.99)
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(_delete_=True, type="llie_preproc.InfiniteDrawSampler"),
    dataset=dict(names="{{ fileDirname }}/../_base_/sice_part1_train.txt"),
)
val_dataloader = dict(num_workers=0, dataset=dict(low=f"{pairs_root}/low", high=f"{pairs_root}/high"))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [dict(type="OneCycleLR", eta_max=1e-3, total_steps=steps, pct_start=0.1, by_epoch=False)]
train_cfg = dict(_delete_=True, type="IterBasedTrainLoop", max_iters=steps, val_interval=1000)
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(interval=50, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=250),
)
