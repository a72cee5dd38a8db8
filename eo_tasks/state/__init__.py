"""Task state in the result backend's Redis: the ledger of units, their leases, and the runs that want them."""
