"""PSENet on SICE part 1 in about an hour on two CPU cores: 10 epochs of batch 8 instead of 140 of batch 64.

The learning rate is twice the paper's and falls by a cosine to 1e-5; the paper's plateau rule needs many epochs.
"""

_base_ = "psenet_sice.py"

train_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [dict(type="CosineAnnealingLR", eta_min=1e-5, by_epoch=True, convert_to_iter_based=True, end=10)]
train_cfg = dict(max_epochs=10, val_interval=2)
