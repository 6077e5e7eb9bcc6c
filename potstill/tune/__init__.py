"""Looking for the values of a recipe's flags that are best on its validation images."""
