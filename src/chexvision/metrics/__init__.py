"""Figures of predictions with their uncertainty. Needs numpy alone, and the records not even that."""
