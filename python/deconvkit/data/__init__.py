"""Small data sets and how networks want them."""
