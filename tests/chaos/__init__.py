"""Machines die: releases without pause on a cluster whose components are killed, stopped and cut off."""
