"""
Faster training
===============

Ioffe and Szegedy (2015) train a network of three layers of 100 sigmoids on MNIST, with and without
batch norm, and draw two things: how accurate it is after so many steps, and where an input of the
last sigmoid lies meanwhile (their figure 1).

Look at the steps that each network needs for the same accuracy, and at the percentiles: the paper
calls those with batch norm more stable. The last verdict asks by how much the percentiles of all
100 inputs move.
"""

# %%
# A quick look, run when this page was built:

from pathlib import Path

import matplotlib.pyplot as plt

from nbbn import evidence

result = evidence.show("faster-training", quick=True)
result.figure(plt.figure(figsize=(12, 3.8)))
print(result)

# %%
# The whole study, as ``nbbn show faster-training`` runs it:

here = Path.cwd()
root = next(folder for folder in (here, *here.parents) if (folder / "docs/evidence").is_dir())
whole = evidence.Result.load(root / "docs/evidence/faster-training.json")
whole.figure(plt.figure(figsize=(12, 3.8)))
print(whole)
