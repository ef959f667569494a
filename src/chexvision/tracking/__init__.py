"""Where the figures of a run are also sent while it runs. A tracker can neither slow a step nor fail a run."""
