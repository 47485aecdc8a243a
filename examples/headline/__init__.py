"""The headline of SUS backprop over a whole network: how much the mask adds to the variance of a gradient."""
