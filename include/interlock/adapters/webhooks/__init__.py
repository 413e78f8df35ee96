"""Signed webhooks, as Standard Webhooks (standardwebhooks.com) describe them."""
