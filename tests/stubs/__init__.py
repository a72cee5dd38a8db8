"""Steps that only take time and write a small file, for real workers in tests of the orchestration."""
