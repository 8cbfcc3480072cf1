"""Schemas, readers, features, labels, splits and generators. polars, numpy and scipy only."""
