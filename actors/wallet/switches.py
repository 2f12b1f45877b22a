"""Wallet switches: while `sends` is on, nobody sends a new packet."""

SENDS = "sends"
