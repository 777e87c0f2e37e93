"""What turns notebooks into a pipeline and a report: running, parameters, stages, results, claims. Knows no mathematics."""
