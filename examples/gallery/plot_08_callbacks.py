"""
Callbacks: stop early, slow down, write down
============================================

A ``Sequential`` with the callbacks that Keras has, and one of one's own.
"""

# %%

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

import nbbn
from nbbn import callbacks

X, y = load_wine(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(
    scale(X).astype("float32"), y, test_size=0.4, random_state=0, stratify=y
)

nbbn.set_random_seed(0)
layers = nbbn.layers
model = nbbn.Sequential([
    layers.Dense(32, use_bias=False, input_shape=(13,)),
    layers.BatchNormalization(momentum=0.9),
    layers.Activation("relu"),
    layers.Dropout(0.2),
    layers.Dense(3, activation="softmax"),
])
model.compile(
    nbbn.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"]
)

# %%
# A callback of one's own overrides what it needs. This one keeps the largest gain of the batch norm
# after each epoch; numbers put into ``logs`` are in the history too.


class LargestGain(callbacks.Callback):
    """|gamma| / sqrt(var + epsilon) of the first batch norm, its largest channel."""

    def on_epoch_end(self, epoch, logs=None):
        gamma, beta, mean, var = self.model.layers[1].get_weights()
        logs["gain"] = float((np.abs(gamma) / np.sqrt(var + 1e-3)).max())


log = Path(tempfile.mkdtemp()) / "log.csv"
history = model.fit(
    x_train, y_train, epochs=200, batch_size=16, validation_data=(x_test, y_test), verbose=0,
    callbacks=[
        LargestGain(),
        callbacks.EarlyStopping("val_loss", patience=20, restore_best_weights=True),
        callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=8),
        callbacks.CSVLogger(log),
    ],
)  # fmt: skip
accuracy = model.evaluate(x_test, y_test, verbose=0)[1]
print(f"{len(history.epoch)} epochs, test accuracy {accuracy:.3f}")
print(log.read_text().splitlines()[0])

# %%

of = history.history
fig, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
axes[0].semilogy(of["loss"], label="training")
axes[0].semilogy(of["val_loss"], label="validation")
axes[0].set(title="loss", xlabel="epoch")
axes[0].legend(frameon=False)
axes[1].step(range(len(of["learning_rate"])), of["learning_rate"])
axes[1].set(title="learning rate", xlabel="epoch", yscale="log")
axes[2].plot(of["gain"])
axes[2].set(title="largest gain", xlabel="epoch")
plt.show()
