"""Two builds of the same rows: what changed, and what a build says about its own time."""
