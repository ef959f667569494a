"""Which regions raise a finding's logit: Grad-CAM, overlays, and an audit against annotated boxes."""
