"""A run while it lasts: its sessions, its branch on the Hub, progress, and what it resumes from."""
