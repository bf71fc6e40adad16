"""How far a fit can be trusted: intervals, back-tests, flags."""
