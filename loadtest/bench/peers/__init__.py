"""Peers: what others would build for the same grabs, on the same machine, with the same durability."""
