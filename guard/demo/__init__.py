"""A throw-away fleet of real hosts, and the story that `guard demo` tells on it."""
