"""Docker engines as guard sees them: over the local socket, or over a kept SSH connection to an inventory host."""
