"""How a release reaches hosts: waves, canary, blue/green, and the traffic between them."""
