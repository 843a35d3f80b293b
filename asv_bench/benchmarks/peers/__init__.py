"""What users could pick instead of nbbn, each at its best: `programs` of the peers, and a fair `contest` with them."""
