"""`chexvision models`: the recipes as a catalog."""
