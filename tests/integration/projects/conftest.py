"""These are other teams' repositories, which the tests build; their own tests run in those builds."""

collect_ignore_glob = ["*"]
