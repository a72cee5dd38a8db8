"""What ``scripts/verify-compose`` is made of."""
