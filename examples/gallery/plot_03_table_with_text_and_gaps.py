"""
A table with text and gaps
==========================

A pipeline that takes a table as people have it: numbers with gaps, categories, columns by name.
"""

# %%
# A made table: who rents a bicycle at what hour. One column in ten has gaps, two hold text.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import nbbn

rng = np.random.default_rng(0)
n = 4000
table = pd.DataFrame({
    "hour": rng.integers(0, 24, n).astype(float),
    "degrees": rng.normal(12, 8, n),
    "wind": rng.gamma(2, 5, n),
    "sky": rng.choice(["clear", "cloudy", "rain"], n, p=[0.5, 0.3, 0.2]),
    "day": rng.choice(["mon", "tue", "wed", "thu", "fri", "sat", "sun"], n),
})
rush = np.exp(-((table["hour"] - 8) ** 2) / 4) + np.exp(-((table["hour"] - 17) ** 2) / 6)
likes = table["degrees"] / 8 - table["wind"] / 20 + 3 * rush * ~table["day"].isin(["sat", "sun"])
busy = likes - 2 * (table["sky"] == "rain") + rng.normal(0, 0.7, n) > 1.5
table.loc[rng.random(n) < 0.1, "wind"] = np.nan
print(table.head(3).to_string(index=False))

# %%
# Numbers are imputed, with a column that says where, and standardised; text becomes one column a
# value. The network is the last step. Its early stopping holds out a tenth of the training rows.

model = make_pipeline(
    make_column_transformer(
        (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()),
         make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
    ),
    nbbn.MLPClassifier((64, 32), early_stopping=True, learning_rate_init=0.01, random_state=0),
)  # fmt: skip
train, test, y_train, y_test = train_test_split(table, busy, random_state=0)
model.fit(train, y_train)
print(f"test accuracy {model.score(test, y_test):.3f} after {model[-1].n_iter_} epochs")

# %%
# Which columns matter: how far the accuracy falls when one is shuffled.

found = permutation_importance(model, test, y_test, n_repeats=5, random_state=0)
order = found.importances_mean.argsort()
fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.barh(table.columns[order], found.importances_mean[order], xerr=found.importances_std[order])
ax.set(xlabel="accuracy lost")
plt.show()
