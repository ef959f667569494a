"""Synthetic radiographs with the release's label statistics."""
