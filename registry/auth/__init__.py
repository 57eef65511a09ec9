"""Who acts, and what they may do: the open mode today, tokens and grants when they come."""
