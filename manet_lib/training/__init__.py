"""One training loop for both stages, from two cores to several nodes."""
