"""A change before it is planned: the request, the policy in force, its risk and its version."""
