"""What discovery decides, as functions of values and a time."""
