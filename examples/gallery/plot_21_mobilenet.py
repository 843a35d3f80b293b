"""
MobileNetV2
===========

The network of Sandler et al. (2018), a function of its size: pointwise convolutions that widen and
narrow, and between them one that looks at each channel alone.
"""

# %%
# A block widens its input, convolves each channel, and narrows the result without an activation;
# where the shape stays, the input is added. On images of 32 x 32 fewer blocks halve the size.

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import nbbn
from nbbn import layers

# Of each stage: how many times as wide within a block, channels, blocks, strides of the first one.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
          (6, 160, 3, 2), (6, 320, 1, 1))


def normed(x, layer, activation=True):
    x = layers.BatchNormalization()(layer(x))
    return layers.ReLU(max_value=6)(x) if activation else x


def block(x, times, filters, strides):
    y, channels = x, x.shape[-1]
    if times > 1:
        y = normed(y, layers.Conv2D(times * channels, 1, use_bias=False))
    y = normed(y, layers.DepthwiseConv2D(3, strides, "same", use_bias=False))
    y = normed(y, layers.Conv2D(filters, 1, use_bias=False), activation=False)
    return layers.Add()([x, y]) if strides == 1 and channels == filters else y


def mobilenet_v2(shape=(32, 32, 3), classes=10, stages=STAGES, last=1280):
    inputs, small = layers.Input(shape), shape[0] <= 64
    x = normed(inputs, layers.Conv2D(32, 3, 1 if small else 2, "same", use_bias=False))
    for stage, (times, filters, count, strides) in enumerate(stages):
        for k in range(count):
            x = block(x, times, filters, strides if k == 0 and not (small and stage == 1) else 1)
    x = normed(x, layers.Conv2D(last, 1, use_bias=False))
    x = layers.GlobalAveragePooling2D()(x)
    return nbbn.Model(inputs, layers.Dense(classes, activation="softmax")(x))


print(f"{mobilenet_v2().count_params():,} parameters")

# %%
# It is trained on handwritten digits, twice as high and wide as they are, with half of the
# channels, five of the stages and one block in each: small enough for a page like this one.

X, y = load_digits(return_X_y=True)
images = (X / 16).reshape(-1, 8, 8, 1).repeat(2, 1).repeat(2, 2).astype("float32")
train, test, y_train, y_test = train_test_split(images, y, random_state=0)

nbbn.set_random_seed(0)
small = [(times, filters // 2, 1, strides) for times, filters, _, strides in STAGES[:5]]
model = mobilenet_v2((16, 16, 1), stages=small, last=128)
model.compile(nbbn.optimizers.Adam(0.003), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(train, y_train, batch_size=64, epochs=5, verbose=0)

# %%
# Running statistics with Keras's momentum of 0.99 need a few hundred steps until they have
# forgotten their start, and there were 110. The exact ones of some images take their place.

print(f"running statistics: accuracy {model.evaluate(test, y_test, verbose=0)[1]:.3f}")
model.recalibrate(train[:300])
print(f"exact statistics:   accuracy {model.evaluate(test, y_test, verbose=0)[1]:.3f}")

# %%
# All batch norms fold, those of the depthwise convolutions too.

folded = model.fold(check=test[:32])
print(f"{folded.report.n_folded} of {folded.report.n_total} batch norms folded")
difference = np.abs(folded.predict(test) - model.predict(test)).max()
print(f"largest difference of a probability {difference:.1e}")
