"""Exported models, computed without torch."""
