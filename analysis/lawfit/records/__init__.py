"""From tables and MLflow to one checked frame; names, units and FLOP conventions of the records."""
