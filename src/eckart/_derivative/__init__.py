"""The derivative of the truncation, and its registration with the libraries."""
