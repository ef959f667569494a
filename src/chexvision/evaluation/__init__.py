"""Evaluation of models and predictions: measured, and compared with each other and the literature."""
