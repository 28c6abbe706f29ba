"""PSENet, finetuned from its shipped weights so that SAM sees in dark pictures of LOL-v1 what it sees in well-lit ones.

It trains on the 40 pairs of ``lol_v1_40.py``, which have no annotated masks. In the enhanced picture, SAM's embedding
and its masks for random boxes are trained to be those of the well-lit picture; L1 keeps the colours. Crops are nearly
as large as the pictures and are not turned, because SAM looks at whole scenes.

Set ``model.sam.checkpoint`` to the public ``sam_vit_b_01ec64.pth``, as a path or as the URL with its digest
(``llie_preproc.segmentation.PUBLIC_CHECKPOINTS``). SAM's encoder runs at 1024 pixels and keeps its activations for the
gradient, 10 GiB for one picture in float32. This needs a GPU and ``--amp``.
"""

_base_ = "../_base_/lol_v1_40.py"

model = dict(
    type="llie_preproc.SamConsistency",
    enhancer=dict(type="llie_preproc.PSENet", checkpoint="psenet_sice"),
    sam=dict(model="vit_b", checkpoint="pretrained/sam_vit_b_01ec64.pth"),
    feature_weight=10.0,
    mask_bce_weight=1.0,
    mask_dice_weight=1.0,
    boxes=4,
    losses=dict(l1=dict(type="llie_preproc.L1Loss")),
)

crop = [
    dict(type="llie_preproc.PairedRandomCrop", size=384),
    dict(type="llie_preproc.RandomFlip", vertical=False),
]
train_dataloader = dict(batch_size=2, dataset=dict(transforms=crop))
optim_wrapper = dict(
    _delete_=True,
    constructor="llie_preproc.MethodOptimWrapperConstructor",
    enhancer=dict(optimizer=dict(type="Adam", lr=1e-4), clip_grad=dict(max_norm=1.0)),
)
