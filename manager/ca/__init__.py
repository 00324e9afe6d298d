"""Certificates for nodes: the CA service, and the swarm's root and join tokens as the store keeps them."""
