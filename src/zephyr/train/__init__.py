"""The training core: flat unpadded streams, segment attention, exact log-probabilities, one loop for both stages."""
