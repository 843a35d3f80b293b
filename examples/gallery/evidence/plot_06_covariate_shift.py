"""
Internal covariate shift
========================

The name that Ioffe and Szegedy (2015) gave to what batch norm is to reduce. Santurkar and others
(2018, definition 2.1) measure it: take the gradient by a layer's weights, update all layers below,
take the gradient again on the same batch. The more the two differ, the more the ground moved.

They find no reduction. Look at both rates: at a large one the network without batch norm is near
the edge of what it can train at, and what differs then may be the rate as much as the shift. And
look at the first points of the whole study: before any training the shift is larger with batch
norm. The networks here are small and dense, theirs are a VGG and deep linear ones.
"""

# %%
# A quick look, run when this page was built:

from pathlib import Path

import matplotlib.pyplot as plt

from nbbn import evidence

result = evidence.show("covariate-shift", quick=True)
result.figure(plt.figure(figsize=(12, 3.8)))
print(result)

# %%
# The whole study, as ``nbbn show covariate-shift`` runs it:

here = Path.cwd()
root = next(folder for folder in (here, *here.parents) if (folder / "docs/evidence").is_dir())
whole = evidence.Result.load(root / "docs/evidence/covariate-shift.json")
whole.figure(plt.figure(figsize=(12, 3.8)))
print(whole)
