"""Releases as change events of paging services: who is on call sees what changed."""
