"""Images to probabilities: splits and files, test-time augmentation, ensembles."""
