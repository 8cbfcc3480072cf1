"""Knowledge tracing from a bundle: predictions of whole logs, and one answer at a time."""
