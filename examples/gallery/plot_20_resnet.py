"""
ResNet-18
=========

The network of He et al. (2016) for small images, a function of its size: convolutions with batch
norm in blocks of two, a shortcut around each block.
"""

# %%
# A block's shortcut is the block's own input, or a 1 x 1 convolution of it where the block changes
# its shape. Images of 32 x 32 keep their size in the first convolution; of larger ones, as in the
# paper, a first convolution of 7 x 7 and a pool leave a quarter of the lines and columns.

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import nbbn
from nbbn import layers


def normed(x, filters, size, strides=1):
    x = layers.Conv2D(filters, size, strides, "same", use_bias=False,
                      kernel_initializer="he_normal")(x)
    return layers.BatchNormalization()(x)


def block(x, filters, strides):
    y = layers.ReLU()(normed(x, filters, 3, strides))
    y = normed(y, filters, 3)
    if strides > 1 or x.shape[-1] != filters:
        x = normed(x, filters, 1, strides)
    return layers.ReLU()(layers.Add()([x, y]))


def resnet18(shape=(32, 32, 3), classes=10, width=64):
    inputs, small = layers.Input(shape), shape[0] <= 64
    x = layers.ReLU()(normed(inputs, width, *((3, 1) if small else (7, 2))))
    if not small:
        x = layers.MaxPooling2D(3, 2, "same")(x)
    for k in range(8):
        x = block(x, width << k // 2, 2 if k in (2, 4, 6) else 1)
    x = layers.GlobalAveragePooling2D()(x)
    return nbbn.Model(inputs, layers.Dense(classes, activation="softmax")(x))


print(f"{resnet18().count_params():,} parameters")

# %%
# It is trained on handwritten digits, twice as high and wide as they are, with a quarter of the
# channels: small enough for a page like this one.

X, y = load_digits(return_X_y=True)
images = (X / 16).reshape(-1, 8, 8, 1).repeat(2, 1).repeat(2, 2).astype("float32")
train, test, y_train, y_test = train_test_split(images, y, random_state=0)

nbbn.set_random_seed(0)
model = resnet18((16, 16, 1), width=16)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(train, y_train, batch_size=64, epochs=5, verbose=0,
                    validation_data=(test, y_test)).history

fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
epochs = range(1, 6)
ax.plot(epochs, history["accuracy"], label="training batches")
ax.plot(epochs, history["val_accuracy"], label="test images")
ax.set(xlabel="epoch", ylabel="accuracy", xticks=epochs)
ax.legend()
plt.show()

# %%
# For inference all batch norms fold into the convolutions before them, beside the shortcuts.

folded = model.fold(check=test[:32])
print(f"{folded.report.n_folded} of {folded.report.n_total} batch norms folded")
for name, network in {"with batch norm": model, "folded": folded}.items():
    answers = network.predict(test)
    start = time.perf_counter()
    answers = network.predict(test)
    seconds = time.perf_counter() - start
    print(f"{name:15} accuracy {np.mean(answers.argmax(1) == y_test):.3f}, "
          f"{1e6 * seconds / len(test):.0f} us an image")

# %%
# Without its last layer the network gives features: 128 numbers of an image, of which the nearest
# neighbours among the training images tell the digit nearly as well.

features = nbbn.Model(model.input, model.layers[-2].output)
near = features.predict(test), features.predict(train)
distances = ((near[0][:, None] - near[1][None]) ** 2).sum(-1)
print(f"accuracy by the nearest neighbour {np.mean(y_train[distances.argmin(1)] == y_test):.3f}")
