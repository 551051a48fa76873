"""How a policy is updated: TRL's trainers, and what r1exp adds to them."""
