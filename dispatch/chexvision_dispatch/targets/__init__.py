"""Where runs are sent: a module for each target."""
