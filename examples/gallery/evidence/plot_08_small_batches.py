"""
Small batches
=============

Statistics of two rows are bad statistics. Wu and He (2018) train with ever smaller batches: the
error of batch norm rises, that of group norm, which takes statistics of each row alone, stays.

Look at the error at batch 2 against that at batch 32, in both networks: a channel of a convolution
has as many numbers as its images have pixels, even in a batch of two; a unit of a dense layer has
two. Batch norm is judged by exact statistics, so that what is seen is what the training came to and
no lag of running averages. Networks and data are far smaller than the paper's.
"""

# %%
# A quick look, run when this page was built:

from pathlib import Path

import matplotlib.pyplot as plt

from nbbn import evidence

result = evidence.show("small-batches", quick=True)
result.figure(plt.figure(figsize=(9, 3.8)))
print(result)

# %%
# The whole study, as ``nbbn show small-batches`` runs it:

here = Path.cwd()
root = next(folder for folder in (here, *here.parents) if (folder / "docs/evidence").is_dir())
whole = evidence.Result.load(root / "docs/evidence/small-batches.json")
whole.figure(plt.figure(figsize=(9, 3.8)))
print(whole)
