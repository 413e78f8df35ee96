"""What the pipeline of an artifact from elsewhere says of it, held against what the policy and the plan expect."""
