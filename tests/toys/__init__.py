"""Toys: the smallest kinds of actors, which show that the kernel knows none. See `docs/adding-a-kind.md`."""
