"""Running code that nobody has read: submissions of a policy, and the checkers that judge them."""
