"""What every stage uses: resources, how functions become tasks, evidence, permits and bookings."""
