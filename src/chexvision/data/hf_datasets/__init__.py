"""Shards as objects of the `datasets` library, for notebooks."""
