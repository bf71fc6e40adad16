"""Is a data set what its manifest says, and fit to train on."""
