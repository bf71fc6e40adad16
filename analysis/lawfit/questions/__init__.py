"""What people ask of fitted laws: forecasts, comparisons, the next runs, the laws of a study."""
