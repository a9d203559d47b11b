"""Metrics and statistics, from predictions alone."""
