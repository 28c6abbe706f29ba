"""Training of the detector alone for the first 5 epochs, then of detector and enhancer.

A detector whose classes are still new gives the enhancer gradients that mean little.
"""

model = dict(trainable=True, train_detector=True)
default_hooks = dict(staged=dict(type="llie_preproc.StagedTraining", begin=5))
# The enhancer's parameters get no gradient in the first stage.
find_unused_parameters = True
