"""One machine with nothing installed: every part as a child process of one command."""
