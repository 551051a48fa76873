"""What is paid: the committee of rewards, and the check that it pays for the right thing."""
