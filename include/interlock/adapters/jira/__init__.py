"""Jira as a place where releases have a record: issues, versions, tickets, and the deployments of Jira Cloud."""
