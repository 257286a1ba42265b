"""Maps beside pytorch-grad-cam's, torch-cam's and captum's, before normalisation, of the same weights (extra `zoo`)."""
