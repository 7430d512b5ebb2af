"""The channel graph of a trained network, and the engines that run it at the cost of its live edges."""
