"""Recipes for data of one's own: what the data and the machine are, and the config for them."""
