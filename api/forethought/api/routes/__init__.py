"""The HTTP surface, one module a noun."""
