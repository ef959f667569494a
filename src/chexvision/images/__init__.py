"""From image files to the input of a model: no torch."""
