"""Operations, pure: what would run and why, and what an artifact's version is made of."""
