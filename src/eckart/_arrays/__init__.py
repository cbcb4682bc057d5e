"""Arrays of any library: what they are, and linear algebra that behaves the same on all of them."""
