"""Experiments on trained networks and experiments of many training runs."""
