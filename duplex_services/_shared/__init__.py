"""What three or more services need; small, or it is wrong. It knows none of them."""
