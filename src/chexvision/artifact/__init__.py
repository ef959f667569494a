"""What a run publishes: its files, loading them, and storing them on the Hub or in a folder."""
