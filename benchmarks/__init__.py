"""What is measured of Interlock, and with what."""
