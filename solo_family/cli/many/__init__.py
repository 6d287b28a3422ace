"""Predicting many pictures, by several processes and machines, into shards of one table."""
