"""What a data set's labels say: imbalance, sizes, contours, likely mistakes, and what follows for the loss."""
