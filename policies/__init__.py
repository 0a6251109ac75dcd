"""Which arm to pick: features, difficulty, policies, tuning. Arrays and values in, values out."""
