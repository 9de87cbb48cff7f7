"""Reviews: when training is due, and which rows are held out."""
