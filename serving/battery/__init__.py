"""Battery life from a bundle: predictions of whole tables, and one cycle at a time."""
