"""Reproducible measurements, each compared with the usual alternative."""
