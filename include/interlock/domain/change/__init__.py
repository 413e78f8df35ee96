"""A change before it is planned: the request, the policy that holds for it, its risk and its version."""
