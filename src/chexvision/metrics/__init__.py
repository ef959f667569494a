"""Metrics of predictions with their uncertainty. Needs numpy and scipy; the records need neither."""
