"""
A smoother loss
===============

Santurkar and others (2018) hold that batch norm works because it smooths the loss, not because it
keeps distributions in place. At a step of training they look along the gradient: over what range
does the loss go, by how much does the gradient change, and by how much for each unit of the way
(the effective smoothness)? And they put noise *behind* batch norm, which shifts the distributions
anew at every step: if stable distributions were the point, that should undo it.

Look at the three curves of each panel: lower is smoother. Look at the first points of the whole
study, too: before any training it is the network without batch norm that is the smoother one.
"""

# %%
# A quick look, run when this page was built:

from pathlib import Path

import matplotlib.pyplot as plt

from nbbn import evidence

result = evidence.show("smoother-loss", quick=True)
result.figure(plt.figure(figsize=(12, 3.8)))
print(result)

# %%
# The whole study, as ``nbbn show smoother-loss`` runs it:

here = Path.cwd()
root = next(folder for folder in (here, *here.parents) if (folder / "docs/evidence").is_dir())
whole = evidence.Result.load(root / "docs/evidence/smoother-loss.json")
whole.figure(plt.figure(figsize=(12, 3.8)))
print(whole)
