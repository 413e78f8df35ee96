"""One deployment to many SSH hosts: how long it takes, beside what OpenSSH alone takes for the same work."""
