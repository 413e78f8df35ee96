"""What the embedded stack has instead of AWS: its API, hosts with SSH servers, mail, and a sample repository."""
