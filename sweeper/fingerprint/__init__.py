"""Analysis of a data set's labels: imbalance, sizes, contours, likely errors, and advice on the loss."""
