"""Networks of this package; the others are timm's."""
