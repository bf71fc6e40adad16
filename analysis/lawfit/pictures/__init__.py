"""Figures, drawn from results alone, in one `style`.

`laws`, `curves`, `isoflop` and `corner` draw what any table gives, `study` what `fit_study` found.
"""
