"""What teachers said, kept: in memory for a run, and on the disk for later ones."""
