"""Options of the commands that run on a cluster."""
