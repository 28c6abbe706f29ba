"""Training of the enhancer alone, by the losses of a frozen detector behind it."""

model = dict(trainable=True, train_detector=False)
