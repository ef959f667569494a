"""Studies: one recipe and its variants, run as a whole and compared."""
