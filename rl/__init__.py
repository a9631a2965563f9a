"""How much to order: simulator, policies, training, replay and order plans."""
