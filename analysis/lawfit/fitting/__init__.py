"""One law to one set of points: starts, the certified Newton solver, the choice among forms."""
