"""The decisions. Pure: nothing in here does I/O, logs, sleeps or reads a clock. Time is an argument."""
