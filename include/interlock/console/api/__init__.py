"""The API for programs, ``/interlock/api/v1``, which the pages read, too: one module a resource."""
