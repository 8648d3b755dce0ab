"""The runtime: one scheduler, one paged cache, one definition per network, two op tables."""
