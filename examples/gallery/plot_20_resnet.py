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
