"""Reproducible companion of MANet (Xu, Lam, Jia, Neurocomputing 443, 2021)."""
