"""The detector is trained alone for the first 5 epochs, then both.

A detector that has just begun with its classes sends the enhancer gradients that mean little.
"""

model = dict(trainable=True, train_detector=True)
default_hooks = dict(staged=dict(type="llie_preproc.StagedTraining", begin=5))
# In the first stage the enhancer's parameters take no part.
find_unused_parameters = True
