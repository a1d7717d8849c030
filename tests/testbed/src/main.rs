//! A control plane with a fake kubelet, for playing.

fn main() {}
