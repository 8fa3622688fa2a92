"""What is decided: functions of values and a time."""
