"""How other sets' tables name images, patients and labels, and how they are read."""
