"""Reports: functions of a run's events."""
