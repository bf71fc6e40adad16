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
# # What to train next
#
# What a larger run will reach, what a target loss takes, and which affordable runs would narrow the forecast most.

# %%
import os

import pandas as pd

from lawfit import fit_study, forecast, load_study, next_runs, what_if
from lawfit.pictures.laws import forecast_figure

# %matplotlib inline
TRACKING_URI = os.environ.get("VARSCALE_TRACKING_URI", "sqlite:///.varscale/mlflow.db")
STUDY = os.environ.get("VARSCALE_STUDY", "emoji-quick")
LARGER = 8.0  # the run to forecast, in compute of the largest known one
LOWER = 0.97  # the loss to reach, as a share of the lowest known one
AFFORDABLE = 1.0  # compute of one further run, in compute of the largest known one

# %%
study = load_study(TRACKING_URI, STUDY)
law = next(result for result in fit_study(study) if result.law.key == "loss_by_flops")
print(law.verdict)

# %% [markdown]
# ## Forecast
#
# The interval is that of a new run, widened until it would have held the known runs when they were forecast from the
# smaller ones.

# %%
said = forecast(law.x, law.y, LARGER * law.x.max(), run=law.runs)
for warning in said.warnings:
    print("note:", warning)
forecast_figure(said, law.law.x, law.law.y)

# %%
pd.DataFrame(
    {
        "at": test.at,
        "said": test.predicted,
        "low": test.low,
        "high": test.high,
        "actual": test.actual,
        "held": test.held,
    }
    for test in said.back_tests
).style.hide(axis="index")

# %% [markdown]
# ## What a target takes

# %%
needed = what_if(law.fit, LOWER * law.y.min(), run=law.runs)
low, high = needed.interval
print(f"loss {needed.target:.4g} is {needed.status}: {needed.x:.3g} FLOPs, from {low:.3g} to {high:.3g}")
print(f"that is {needed.extrapolation:.3g} times the largest known run")

# %% [markdown]
# ## Which runs would narrow the forecast most per FLOP

# %%
pd.DataFrame(
    {
        "FLOPs": run.cost,
        "interval now": run.half_width_before,
        "interval with it": run.half_width_after,
        "gain per FLOP": run.gain,
    }
    for run in next_runs(law.fit, {"x": LARGER * law.x.max()}, budget=AFFORDABLE * law.x.max())
).style.hide(axis="index").format("{:.3g}")
