"""Fairness: equal clients fire at one instant through all gateway replicas; who wins, and in which order?"""
