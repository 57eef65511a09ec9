"""Backends put bytes somewhere and get them back, nothing else."""
