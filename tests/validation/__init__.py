"""Tests of the validation of metadata."""
