"""Sensor: sends what waits in the alerts' outbox, and reminds of what nobody acknowledged."""

import os

import dagster as dg
import pandas as pd

from resources.alert_channels import channels
from resources.alert_delivery import deliver_due
from resources.alert_settings import alert_settings
from resources.alerts import due
from resources.warehouse import Warehouse


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Sends alerts by Slack, text message and mail, as far as CVN_ALERT_SLACK_URL, CVN_ALERT_SMS_URL and "
    "CVN_ALERT_MAIL_URL are set; repeats and escalates what nobody acknowledged.",
)
def alert_delivery(context: dg.SensorEvaluationContext, warehouse: dg.ResourceParam[Warehouse]) -> dg.SkipReason:
    """One round of sending; what is not sent waits for the next ones."""
    del context
    now = pd.Timestamp.now("UTC")
    settings = alert_settings(warehouse, now)
    with warehouse.begin() as connection:
        reminders = due(connection, now, settings)
    delivered = deliver_due(warehouse, channels(os.environ), settings, now)
    troubles = f" ({'; '.join(delivered.troubles)})" if delivered.troubles else ""
    return dg.SkipReason(
        f"{delivered.sent} messages sent, {delivered.failed} attempts failed{troubles}, {delivered.waiting} wait; "
        f"{reminders} reminders"
    )
