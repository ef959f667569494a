"""A run in progress: its sessions, its branch on the Hub, its progress, and the state it resumes from."""
