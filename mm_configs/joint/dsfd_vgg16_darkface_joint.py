"""DSFD (the paper's form) on VGG-16 and the enhancer ``$ENHANCER`` (default: PSENet), trained together on DARK FACE.

DSFD starts from weights of WIDER FACE. You must provide ``weights/dsfd_vgg16_wider-face.pth``;
``mm_configs/faces/dsfd_vgg16_wider-face.py`` trains it.
"""

_base_ = [
    "../faces/_base_/dsfd_vgg16.py",
    "../faces/_base_/darkface_train.py",
    "../faces/_base_/anchor_sampling_640.py",
    "../_base_/joint/run.py",
    "../_base_/enhancers/{{$ENHANCER:psenet}}.py",
]

work_dir = "work_dirs/dsfd_vgg16_darkface_joint_{{$ENHANCER:psenet}}"
# The backbone downloads no weights, because the checkpoint has them.
_base_.model.backbone.init_cfg = None
model = dict(
    _delete_=True,
    type="llie_preproc.EnhancedDetector",
    detector={{_base_.model}},
    enhancer=_base_.enhancer,
    checkpointing=_base_.get("checkpointing", False),
    trainable=True,
)
load_from = "weights/dsfd_vgg16_wider-face.pth"

train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    dataset=dict(**_base_.train_set, pipeline=_base_.load + _base_.train_transforms),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**_base_.test_set, pipeline=_base_.load_image + _base_.test_transforms),
)
test_dataloader = val_dataloader
val_evaluator = _base_.val_evaluators
test_evaluator = _base_.test_evaluators
