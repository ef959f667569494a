"""The recipe as typed and validated objects."""
