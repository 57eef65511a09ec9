"""Who acts, and what they may do: the open mode's answer today, tokens and grants when they come."""
