"""Updates the policy: TRL's trainers with what r1exp adds to them, and PPO."""
