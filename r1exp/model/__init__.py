"""Which policy is trained, with which tokenizer, in which precision, and what it costs in memory."""
