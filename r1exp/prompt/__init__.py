"""What is asked, in which tags, and how the answer is read back."""
