"""How far a fit can be trusted: intervals, back-tests, flags.

`covariance` linearises, `ridge` and `profile` follow the objective, `resampling` and `bootstrap` draw, `draws` hands on
whole laws, `prediction` looks beyond the data, `back_tests` look back; `alternatives` and `flags` say what to distrust.
"""
