"""`chexvision shards` and `chexvision labels`: commands on data sets."""
