"""Shards to batches on the device: found, decoded once, indexed, augmented."""
