"""What a run tells while it trains, and what follows runs from outside."""
