"""Results on several datasets."""
