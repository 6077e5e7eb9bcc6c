"""What `potstill` does when it is told: a module for each verb, or for a few that are alike."""
