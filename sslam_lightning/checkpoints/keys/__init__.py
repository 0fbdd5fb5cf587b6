"""Names of weights and configuration keys of other code, and what becomes of them."""
