"""What things cost: money, usage, prices, owned machines, estimates. Pure: no I/O, no clock."""
