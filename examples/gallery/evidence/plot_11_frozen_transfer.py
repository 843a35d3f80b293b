"""
Frozen batch norm in transfer
=============================

A network that was trained on much goes on on little: on few rows of classes that it has not seen.
In small batches it is common to freeze its batch norms, so that they keep the statistics and the
gamma and beta that they have. All other weights are trained.

Look at where the curves meet, if they do.
"""

# %%
# A quick look, run when this page was built:

from pathlib import Path

import matplotlib.pyplot as plt

from nbbn import evidence

result = evidence.show("frozen-transfer", quick=True)
result.figure(plt.figure(figsize=(6, 3.8)))
print(result)

# %%
# The whole study, as ``nbbn show frozen-transfer`` runs it:

here = Path.cwd()
root = next(folder for folder in (here, *here.parents) if (folder / "docs/evidence").is_dir())
whole = evidence.Result.load(root / "docs/evidence/frozen-transfer.json")
whole.figure(plt.figure(figsize=(6, 3.8)))
print(whole)
