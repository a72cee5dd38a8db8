"""Who does it: what exists only inside a running worker."""
