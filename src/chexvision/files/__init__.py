"""Files and folders that are whole or not there, and reading those that others wrote."""
