//! kubernaut.
fn main() {}
