"""Where a classifier looks: Grad-CAM maps, their scores, and probes of whether they can be believed."""
