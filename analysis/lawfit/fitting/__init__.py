"""One law to one set of points: starts, the certified Newton solver, the choice among forms.

`fitting` asks: `points` checks, `objectives` states the problem, `search` finds starts, `newton` solves, `certificate`
judges, `criteria` and `selection` choose; `result` is the fit.
"""
