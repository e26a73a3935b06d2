"""What diffusers computes with tiny networks, for the Rust engine to agree with."""
