"""The methods that compute a truncated SVD, and their shared parts."""
