"""Synthetic releases: synthetic radiographs in the folders, files and tables of real releases."""
