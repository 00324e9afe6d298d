"""Single containers: those of `docker run`, beside the ones of tasks. The worker has no part in them."""
