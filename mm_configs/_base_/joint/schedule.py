"""The schedule of joint training: enhancer and detector share an optimiser; the enhancer has a tenth of the rate.

The recipe follows IAT's joint training (BMVC 2022): SGD with a rate of 1e-3 at 8 pictures a step (scaled to the actual
number), 25 epochs, the rate divided by 10 after 18 and 23 epochs, and a detector that starts from COCO. This project
added the rest. The enhancer has its share of the rate and no weight decay, because it is trained already. The detector
has momentum and weight decay. There are a warm-up, clipped gradients, and a moving average of the weights, which is
validated and written as the model.

This file can be merged over the config of any detector that trains. It replaces the optimiser, the loop and the sampler
of that config.
"""

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="SGD", lr=1e-3, momentum=0.9, weight_decay=5e-4),
    paramwise_cfg=dict(custom_keys={"enhancer.": dict(lr_mult=0.1, decay_mult=0.0)}),
    clip_grad=dict(max_norm=35, norm_type=2),
)
train_cfg = dict(_delete_=True, type="EpochBasedTrainLoop", max_epochs=25, val_interval=1)
# This replaces infinite samplers, whose epochs would never end.
train_dataloader = dict(sampler=dict(_delete_=True, type="DefaultSampler", shuffle=True))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=25, milestones=[18, 23], gamma=0.1),
]
auto_scale_lr = dict(enable=True, base_batch_size=8)
default_hooks = dict(
    checkpoint=dict(type="llie_preproc.AtomicCheckpointHook", by_epoch=True, interval=1, max_keep_ckpts=2),
    # The momentum of this average grows with the run, so that short runs have an average too. Frozen parameters stay
    # as they are to the last bit.
    ema=dict(type="EMAHook", ema_type="MomentumAnnealingEMA", momentum=0.0002),
)
log_processor = dict(by_epoch=True)
