"""Files and folders that appear complete or not at all, and untrusted files read with bounds."""
