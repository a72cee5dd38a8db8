"""What people look at, read from the ledger, the runs and the store: screens, commands, metrics and alerts share it."""
