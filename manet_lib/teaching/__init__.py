"""Exercises beside the notebooks, and the checks that answer whether a solution is right, and why."""
