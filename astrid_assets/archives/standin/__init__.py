"""A server on loopback that stands in for the archives: for tests, and for trying things out."""
