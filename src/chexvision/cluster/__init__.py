"""Building, training and predicting on a Ray cluster. Nothing else imports Ray."""
