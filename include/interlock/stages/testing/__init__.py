"""Tasks that ask testers to run test cases, and record what they found."""
