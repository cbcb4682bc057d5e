"""The methods that find a truncated SVD, and what they share."""
