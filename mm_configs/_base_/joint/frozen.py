"""The detector is trained behind the enhancer, which stays as it is."""

model = dict(trainable=False, train_detector=True)
