"""Long runs by hand: they go on where they were, and keep seed and results in `results/`."""
