"""Alerts: rules that look at everything now and then, and the channels that tell people of what they find."""

from eo_tasks.alerts.channels import Channel, NotTakenError, open_channels
from eo_tasks.alerts.watch import read_alerts, try_channel, watch

__all__ = ["Channel", "NotTakenError", "open_channels", "read_alerts", "try_channel", "watch"]
