"""Measurements: plans of training runs, tables of their rows, speed, probes. Only the command line imports them."""
