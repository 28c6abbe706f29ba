"""Both are trained: the detector's losses reach the enhancer."""

model = dict(trainable=True, train_detector=True)
