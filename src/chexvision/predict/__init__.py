"""From images to answers, whatever computes them. Needs numpy and OpenCV, no torch."""
