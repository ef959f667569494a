"""Where datasets and artifacts live: Hub repositories and folders."""
