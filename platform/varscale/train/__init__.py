"""Training: schedule, engine (DeepSpeed), loop, and the Ray Train workers that run it."""
