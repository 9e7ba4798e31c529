"""Updates: what a release is, whom a cart believes about it, and the slots it goes into."""
