"""The fleet's program: what stores the findings of all carts and gives the receipts."""
