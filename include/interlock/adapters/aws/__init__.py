"""AWS: instances, load balancers, and what of an account belongs to production.

AWS Systems Manager as a way to hosts is in :mod:`interlock.adapters.hosts`, signatures by KMS in
:mod:`interlock.adapters.signing`.
"""
