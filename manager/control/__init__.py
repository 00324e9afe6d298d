"""The cluster's API: validation with Docker's texts, and the Control service over the store."""
