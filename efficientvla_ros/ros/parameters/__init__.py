"""The tables of the nodes' parameters, and what is made of them."""
