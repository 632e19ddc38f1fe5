"""Analysis of a data set's labels: imbalance, sizes, contours, likely mistakes, and what follows for the loss."""
