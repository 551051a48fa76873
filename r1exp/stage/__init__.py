"""Does the work of a step in its processes: for each kind of step, its settings and its work."""
