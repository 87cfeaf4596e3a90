"""Jobs, sensors, locks of runs, and running fields from a program."""
