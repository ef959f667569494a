"""The laptop's side of a run: pack the source, send it to a target, remember it. Imports nothing that needs torch."""
