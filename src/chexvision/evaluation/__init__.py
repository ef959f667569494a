"""Models and predictions measured, compared, and set against the literature."""
