"""Backbones, the dual head, and `config.json` of models."""
