"""Commands for those who use published models."""
