"""The modules of this package that register into the registries of :mod:`llie_preproc.registry`."""

LOCATIONS = {
    "model": [
        "training.methods",
        "training.discriminators",
        "training.losses",
        "training.joint.losses",
        "training.feature_encoders",
    ],
    "transform": ["training.datasets"],
    "dataset": ["training.datasets"],
    "data_sampler": ["training.datasets"],
    "hook": ["training.hooks", "training.joint.staged_training"],
    "param_scheduler": ["training.train_loss_plateau"],
    "model_wrapper": ["training.data_parallel"],
    "optimizer": ["training.optim"],
    "optim_wrapper": ["training.optim"],
    "optim_wrapper_constructor": ["training.optim"],
}
