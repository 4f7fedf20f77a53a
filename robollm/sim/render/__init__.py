"""Photographs of scenes: who draws, from where, in which light, through which lens."""
