"""What users could pick instead of nbbn, each at its best, a module a topic."""
