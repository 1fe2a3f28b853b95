"""Changing hosts: versioned playbooks, and runs of them that survive the process that asked for them."""
