"""Pages that show what a published model finds in an image: served here, or deployed to a Space."""
