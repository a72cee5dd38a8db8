"""What a change map becomes: files that people and programs read."""
