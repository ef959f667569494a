"""Tables and pages of many published runs."""
