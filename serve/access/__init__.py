"""Who may do what: tokens, roles, rates, and the gate that asks for them before a request is read."""
