"""
A first network
===============

A classifier with batch norm on scikit-learn's handwritten digits: fit, score, look at the curves.
"""

# %%
# 1,797 images of 8 x 8 pixels, from 0 to 16. A quarter is kept aside.

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import nbbn

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)

# %%
# Three hidden layers, each with batch norm between its affine map and its ReLU. Rows given as
# ``X_val`` are measured after every epoch; nothing is learnt from them.

clf = nbbn.MLPClassifier((128, 64, 32), batch_size=32, tol=1e-3, random_state=0)
clf.fit(X_train, y_train, X_val=X_test, y_val=y_test)
print(f"test accuracy {clf.score(X_test, y_test):.4f} after {clf.n_iter_} epochs")

# %%
# The curves of the fit are attributes.

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left.semilogy(clf.loss_curve_, label="training rows")
left.semilogy(clf.validation_loss_curve_, label="test rows")
left.set(xlabel="epoch", ylabel="cross-entropy")
left.legend(frameon=False)
right.plot(clf.validation_scores_)
right.set(xlabel="epoch", ylabel="test accuracy", ylim=(0.8, 1))
plt.show()

# %%
# What the network takes for what: each picture is a test image that it gets wrong.

predicted = clf.predict(X_test)
wrong = (predicted != y_test).nonzero()[0]
fig, axes = plt.subplots(1, min(6, len(wrong)), figsize=(9, 1.9), layout="constrained")
for ax, i in zip(axes, wrong):
    ax.imshow(X_test[i].reshape(8, 8), cmap="gray_r")
    ax.set(title=f"{y_test[i]} as {predicted[i]}", xticks=[], yticks=[])
plt.show()
