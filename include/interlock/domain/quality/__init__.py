"""What quality review judges: rows of test results, and load measured before and after the release."""
