"""What three or more of the services need. It is below all of them and knows none."""
