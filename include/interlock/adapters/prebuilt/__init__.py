"""Artifacts from elsewhere: fetched by digest from where a pipeline left them, unpacked, and what was signed of them.

A kind of place is a module; what it hands on is a file with the digest that was asked for, and its name.
"""
