"""
A convolutional network
=======================

``Sequential`` with Keras's layers and arguments, on images of 8 x 8 pixels, with batch norm behind
each convolution.
"""

# %%
# Images are channels last: ``(rows, height, width, channels)``.

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import nbbn

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32").reshape(-1, 8, 8, 1)
x_train, x_test, y_train, y_test = train_test_split(X, y, random_state=0)

nbbn.set_random_seed(0)
layers = nbbn.layers
model = nbbn.Sequential([
    layers.Conv2D(16, (3, 3), padding="same", use_bias=False, input_shape=(8, 8, 1)),
    layers.BatchNormalization(momentum=0.9),
    layers.Activation("relu"),
    layers.MaxPooling2D((2, 2)),
    layers.Conv2D(32, (3, 3), padding="same", use_bias=False),
    layers.BatchNormalization(momentum=0.9),
    layers.Activation("relu"),
    layers.GlobalAveragePooling2D(),
    layers.Dense(10, activation="softmax"),
])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.summary()

# %%

history = model.fit(
    x_train, y_train, epochs=12, batch_size=32, validation_data=(x_test, y_test), verbose=0
)
loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"test accuracy {accuracy:.4f}")

# %%
# The first kernels, and what the first block makes of an image.

kernels = model.layers[0].get_weights()[0]
fig, axes = plt.subplots(2, 8, figsize=(9, 2.6), layout="constrained")
for ax, i in zip(axes.flat, range(16)):
    ax.imshow(kernels[:, :, 0, i], cmap="RdBu", vmin=-0.6, vmax=0.6)
    ax.set(xticks=[], yticks=[])
fig.suptitle("kernels of the first convolution")
plt.show()

# %%
# Both batch norms fold into the convolutions before them, pooling and ReLU stay where they are.

print(model.fold(check=x_test).report)
