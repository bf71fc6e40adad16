"""What people ask of fitted laws: `forecast`, `compare`, `next_runs`, and the laws of a study (`study_laws`)."""
