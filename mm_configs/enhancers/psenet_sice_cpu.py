"""PSENet on SICE part 1 in about an hour on two CPU cores: 10 epochs of batch 8 instead of 140 of batch 64.

Twice the paper's learning rate, falling by a cosine to 1e-5, in place of the plateau rule, which needs many epochs.
"""

_base_ = "psenet_sice.py"

train_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [dict(type="CosineAnnealingLR", eta_min=1e-5, by_epoch=True, convert_to_iter_based=True, end=10)]
train_cfg = dict(max_epochs=10, val_interval=2)
