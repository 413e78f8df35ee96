"""Tickets where they are kept: Jira, GitHub, GitLab, Azure DevOps, each behind one small interface."""
