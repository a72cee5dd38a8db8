"""The progress report: what a system or a run has made and where it stands, to keep and to send on.

``make_report`` reads it; ``as_html``, ``as_csv`` and ``as_json`` write it.
"""

from eo_tasks.report.make import Report, make_report
from eo_tasks.report.page import as_html
from eo_tasks.report.table import as_csv, as_json

__all__ = ["Report", "as_csv", "as_html", "as_json", "make_report"]
