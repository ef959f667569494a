"""Metrics, and the predictions they are taken from."""
