"""An image in, a prediction out: the networks of a finished run on images that they have not seen."""
