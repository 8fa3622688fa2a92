"""What a store decides, as functions of values and a time: no trio, no sockets, no clock, no chance."""
