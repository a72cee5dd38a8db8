"""The network twice: as published (``published.py``), and the same function with less work (``fast.py``)."""
