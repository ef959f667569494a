"""The NIH ChestX-ray14 release: its archives, metadata, boxes and public splits."""
