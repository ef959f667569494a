"""Datasets on the Hub as releases."""
