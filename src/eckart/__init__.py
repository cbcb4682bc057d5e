"""Rank, truncated SVD and low-rank factors for the arrays of any library."""

from eckart._arithmetic import add, inner, linear, norm, reconstruct
from eckart._certificate import Certificate, certify
from eckart._matrices.factors import SVD, LowRank
from eckart._matrices.operator import Operator, operator
from eckart._ranks import break_even_rank, effective_rank, matrix_rank, stable_rank
from eckart._thresholds import hard_threshold, select_rank, truncation_error
from eckart._truncation import factorize, singular_values, truncated_svd
from eckart._update import Update, update

__all__ = [
    "SVD",
    "Certificate",
    "LowRank",
    "Operator",
    "Update",
    "add",
    "break_even_rank",
    "certify",
    "effective_rank",
    "factorize",
    "hard_threshold",
    "inner",
    "linear",
    "matrix_rank",
    "norm",
    "operator",
    "reconstruct",
    "select_rank",
    "singular_values",
    "stable_rank",
    "truncated_svd",
    "truncation_error",
    "update",
]
