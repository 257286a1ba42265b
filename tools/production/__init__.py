"""What becomes of a network on its way into production, and what its maps become: ``python -m tools.production``."""
