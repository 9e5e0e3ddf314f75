"""Helpers that hooks, operators, sensors and triggers share."""
