"""Evidence: the pack that proves a release, where its contents come from, and the attestations in it.

The offline verifier is :mod:`interlock.verify`.
"""
