"""Commands on many published runs."""
