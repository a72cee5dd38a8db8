"""The dashboard: an HTTP API under ``/api/v1``, live numbers over a WebSocket, and the pages that use both."""
