"""`target=ray_serve`: replicas of an engine on a Ray cluster, behind one address."""
