# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Do two studies scale differently?
#
# The difference of their exponents with its interval and p. Runs of the same name in both studies are drawn together,
# so that what they share, such as a seed, cancels.

# %%
import os

import pandas as pd

from lawfit import compare, fit_study, load_study
from lawfit.pictures.study import loss_by_size

# %matplotlib inline
TRACKING_URI = os.environ.get("VARSCALE_TRACKING_URI", "sqlite:///.varscale/mlflow.db")
FIRST = os.environ.get("VARSCALE_STUDY", "emoji-quick")
SECOND = os.environ.get("VARSCALE_SECOND_STUDY", "emoji-second")

# %% [markdown]
# One form for both: exponents of a plain power law and of one above a floor do not compare.

# %%
studies = {name: load_study(TRACKING_URI, name) for name in (FIRST, SECOND)}
laws = {name: {r.law.key: r for r in fit_study(study, form="power")} for name, study in studies.items()}
pd.DataFrame({name: {key: result.verdict for key, result in found.items()} for name, found in laws.items()})

# %% [markdown]
# ## Exponents

# %%
found = {
    key: compare(one.fit, laws[SECOND][key].fit, runs=(one.runs, laws[SECOND][key].runs))
    for key, one in laws[FIRST].items()
    if key in laws[SECOND] and one.law.source == "final" and one.law.primary
}
pd.DataFrame(
    {
        "law": laws[FIRST][key].law.title,
        FIRST: result.first,
        SECOND: result.second,
        "difference": result.difference,
        "low": result.interval[0],
        "high": result.interval[1],
        "p": result.p,
        "paired": result.paired,
    }
    for key, result in found.items()
).style.hide(axis="index")

# %%
for key, result in found.items():
    print(f"{laws[FIRST][key].law.title}: {result.verdict}")

# %% [markdown]
# ## The laws side by side

# %%
loss_by_size(studies[FIRST], list(laws[FIRST].values()))

# %%
loss_by_size(studies[SECOND], list(laws[SECOND].values()))
