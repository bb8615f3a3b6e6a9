"""What training will take, before it is begun: bytes, tokens, floating-point operations, hours."""
