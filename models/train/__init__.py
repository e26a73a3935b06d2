"""Trains the tiny models that ship with warmq, on pictures that it draws itself."""
