"""Measurements that anyone can repeat, each beside the usual way of doing the same."""
