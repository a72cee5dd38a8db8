"""Composites on order: no worker waits for a remote job.

A download's message puts the missing cells of its block on order (``place``). A tick moves every open order on, one
short request at a time (``advance``), within the limits of its account and the budget of its run (``budget``). When a
result is ready, a worker fetches it and cuts the cells out of it (``fetch``). What a failure means is decided in
``ends``.
"""
