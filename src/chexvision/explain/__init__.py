"""Where a model looks: Grad-CAM, overlays, and an audit against drawn boxes."""
