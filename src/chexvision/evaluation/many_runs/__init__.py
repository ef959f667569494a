"""Many published runs side by side."""
