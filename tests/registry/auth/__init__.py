"""Who acts, and the keys that prove things."""
