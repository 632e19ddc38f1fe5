"""What a data set's labels log: imbalance, sizes, contours, likely mistakes, and what follows for the loss."""
