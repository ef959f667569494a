"""Shards whose images are known from names alone: planned, written, and recorded when they are finished."""
